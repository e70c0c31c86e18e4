"""The one error that the add-on shows: what, where, what to do, and the button that does it. Never imports bpy."""

MENDS = ("", "install", "start", "restart", "log", "settings", "resume", "again", "import")


class BackendError(Exception):
    """Something between the add-on and its backend went wrong in a way the user can mend.

    what: the fault, a sentence without a final period. where: the place (address, file, `slots[2].prompt`), or "".
    remedy: what the user can do, or "". mend: the button that does it: "install" (make the environment), "start",
    "restart" (the backend), "log" (open the log), "settings" (open the preferences), "resume", "again" or
    "import" (let the job go on, begin anew, or be fetched once more), or "" where no button helps. job: the id of that
    job. ticket: of the request that was not taken; 0 where it was about something else.
    """

    def __init__(self, what: str, where: str = "", remedy: str = "", mend: str = "", job: str = "") -> None:
        assert mend in MENDS, mend
        self.what, self.where, self.remedy, self.mend, self.job = what, where, remedy, mend, job
        self.ticket = 0
        super().__init__(f"{where + ': ' if where else ''}{what}{'. ' + remedy if remedy else ''}")


class NotYet(BackendError):
    """The backend runs, and cannot answer yet: asking again helps."""


class Cancelled(Exception):
    """The user stopped it; there is nothing to mend."""
