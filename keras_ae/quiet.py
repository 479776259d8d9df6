"""What C++ libraries greet with on stderr, below Python's streams, kept back. Standard library only."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def greetings_kept_back() -> Iterator[None]:
    """What anyone writes on this process's stderr in the block is shown only where the block fails."""
    import tempfile

    sys.stderr.flush()
    with tempfile.TemporaryFile() as said:
        stderr = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            yield
        except BaseException:
            said.seek(0)
            os.write(stderr, said.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
