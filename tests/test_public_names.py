import pytest

import avssl


def test_every_public_name_is_there():
    for name in avssl._MODULES:
        assert getattr(avssl, name).__name__ == name
        assert name in dir(avssl)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'info_nec'"):
        avssl.info_nec  # noqa: B018
