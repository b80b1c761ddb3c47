"""What a program's own tests need; works with any test runner, and imports none.

Two ways, by what a test is about:

`inline(hf)`: enqueueing runs the handler here and now. No database. For tests of what surrounds the jobs.

`sandbox(hf)`: a real ledger, in a database of its own that is dropped at the end. Look at what was enqueued, run it
with `drain`, move the clock with `advance`, have schedules tick with `tick`. For tests of the jobs themselves:
retries, delays, uniqueness, transactions.

With pytest, for example:

    @pytest.fixture
    def box():
        with sandbox(hf) as box:
            yield box
"""

from holdfast.testing.drain import Ran
from holdfast.testing.inline import Inline, inline
from holdfast.testing.sandbox import Sandbox, sandbox

__all__ = ["Inline", "Ran", "Sandbox", "inline", "sandbox"]
