"""Settings that all tests share."""

from hypothesis import settings

# The machines that tests run on are too unlike for deadlines, and a run has to be repeatable.
settings.register_profile("skectonas", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("skectonas")
