"""``python -m avssl``, for ``torchrun -m avssl pretrain ...``, and the command ``avssl``."""

import signal


def main() -> int:
    """Run the command line of this process; see :func:`avssl.cli.main`.

    Ctrl-C while Python loads it, or after it has done its work, ends the process without a traceback.
    """
    interrupt = signal.getsignal(signal.SIGINT)
    outside = interrupt if interrupt == signal.SIG_IGN else signal.SIG_DFL  # a shell's background job ignores it
    signal.signal(signal.SIGINT, outside)
    from avssl.cli import main as run

    try:
        signal.signal(signal.SIGINT, interrupt)
        return run()
    finally:
        signal.signal(signal.SIGINT, outside)


if __name__ == "__main__":
    raise SystemExit(main())
