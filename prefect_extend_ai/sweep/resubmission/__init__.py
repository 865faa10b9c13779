"""Submit the documents of cancelled runs again: which may be, as what, and at most once."""

from prefect_extend_ai.sweep.resubmission.by_hand import resubmit_one
from prefect_extend_ai.sweep.resubmission.submitting import Resubmitter

__all__ = ["Resubmitter", "resubmit_one"]
