"""`python -m transhume`."""

from transhume.cli import main

main()
