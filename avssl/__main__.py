"""``python -m avssl``, for ``torchrun -m avssl pretrain ...``."""

from avssl.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
