"""`python -m modelsync`: the same as `modelsync`."""

from modelsync.cli import main

main(prog_name="modelsync")
