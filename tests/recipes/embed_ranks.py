"""Run by torchrun from test_embed.py: ``avssl`` with small parts, whose makers say so, and of which a rank makes none.

Arguments: the rank that fails, or ``none``; the arguments of ``avssl``.
"""

import sys
from typing import Any

from avssl.cli import main
from avssl.core import distributed
from avssl.core.errors import InputError
from avssl.recipes import embed as recipe

recipe.WINDOWS_PER_PART = 3
add_table = recipe.TableParts.add_table


def told(parts: recipe.TableParts, *values: Any) -> None:
    """Say who makes a part."""
    if str(distributed.rank()) == sys.argv[1]:
        raise InputError("the disk is full")
    add_table(parts, *values)
    print(f"rank {distributed.rank()} made {values[:2]}", file=sys.stderr)


recipe.TableParts.add_table = told  # type: ignore[method-assign]
sys.exit(main(sys.argv[2:]))
