"""The façade: models and tables in, Networks and results out. Everything else is a room below."""

from gatewise.api.explaining import Explainer, explain, integrated_gradients, profile, recourse
from gatewise.api.maps import affine, census, pattern, region, trace
from gatewise.api.results import audit, evaluate, report, save
from gatewise.explain.cohorts.cohorts import cohorts
from gatewise.explain.reasons import reason_codes
from gatewise.read import read

__all__ = [
    "Explainer",
    "affine",
    "audit",
    "census",
    "cohorts",
    "evaluate",
    "explain",
    "integrated_gradients",
    "pattern",
    "profile",
    "read",
    "reason_codes",
    "recourse",
    "region",
    "report",
    "save",
    "trace",
]
