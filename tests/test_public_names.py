import pytest

import avssl


def test_every_public_name_is_there():
    for name, path in avssl._public.items():
        assert getattr(avssl, name).__name__ == name == path.partition(":")[2]
        assert name in dir(avssl)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'info_nec'"):
        avssl.info_nec  # noqa: B018
