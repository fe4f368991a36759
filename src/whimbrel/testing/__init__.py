"""The author's kit: one call that proves a migration, for the tests of its author.

    from whimbrel.testing import check_migration

Where Whimbrel is installed, pytest has the fixture `whimbrel_mongodb`: the address of a real MongoDB.
"""

from whimbrel.testing.check import Checked, Unproved, check_migration

__all__ = ["Checked", "Unproved", "check_migration"]
