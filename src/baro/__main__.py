"""``python -m baro`` is the command line."""

from baro.cli import main

main()
