from .agreement import VerificationReport as VerificationReport
from .agreement import verify_completions as verify_completions
from .check import Check as Check
from .verdict import Verdict as Verdict
from .verifier import Verifier as Verifier
from .verifier import load_verifier as load_verifier
