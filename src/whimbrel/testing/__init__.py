"""The author's kit: one call that proves a migration, for the tests of whoever wrote it.

    from whimbrel.testing import check_migration

With pytest the fixture `whimbrel_mongodb` is there as soon as Whimbrel is installed: the address of a real MongoDB.
"""

from whimbrel.testing.check import Checked, Unproved, check_migration

__all__ = ["Checked", "Unproved", "check_migration"]
