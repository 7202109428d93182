"""How many files a process may have open: servers of many connections want what they may have."""

import resource


def allow_many() -> None:
    """Raise the soft limit of open files to the hard one, for this process and those that it starts."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
