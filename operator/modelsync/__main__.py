"""`python -m modelsync` runs the same command as `modelsync`."""

from modelsync.cli import main

main(prog_name="modelsync")
