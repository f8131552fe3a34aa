"""Linear heads: fitted on features, certified, saved without pickle.

Names are imported when they are first used, so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from featx.lazy import lazy_names

if TYPE_CHECKING:
    from featx.heads.certificate import Certificate, certify_svm
    from featx.heads.choice import C_GRIDS, C_MOST, NAMED_GRIDS, Choice, next_C, pick_C
    from featx.heads.fitting import Fit
    from featx.heads.folds import cross_validate
    from featx.heads.linear import LinearHead
    from featx.heads.logistic import LogisticRegression
    from featx.heads.neighbours import KNearest
    from featx.heads.paths import (
        DEFAULT_TOL,
        SOLVERS,
        HeadCounter,
        fit_logistic,
        fit_path,
        fit_svm,
    )
    from featx.heads.ridge import RidgeClassifier
    from featx.heads.simple import NearestCentroid
    from featx.heads.svm import LinearSVM

_HOME = {
    "Certificate": "featx.heads.certificate",
    "certify_svm": "featx.heads.certificate",
    "C_GRIDS": "featx.heads.choice",
    "C_MOST": "featx.heads.choice",
    "next_C": "featx.heads.choice",
    "NAMED_GRIDS": "featx.heads.choice",
    "Choice": "featx.heads.choice",
    "pick_C": "featx.heads.choice",
    "Fit": "featx.heads.fitting",
    "DEFAULT_TOL": "featx.heads.paths",
    "HeadCounter": "featx.heads.paths",
    "SOLVERS": "featx.heads.paths",
    "fit_logistic": "featx.heads.paths",
    "fit_path": "featx.heads.paths",
    "fit_svm": "featx.heads.paths",
    "cross_validate": "featx.heads.folds",
    "LinearHead": "featx.heads.linear",
    "LinearSVM": "featx.heads.svm",
    "LogisticRegression": "featx.heads.logistic",
    "KNearest": "featx.heads.neighbours",
    "RidgeClassifier": "featx.heads.ridge",
    "NearestCentroid": "featx.heads.simple",
}

__all__ = [
    "C_GRIDS",
    "C_MOST",
    "DEFAULT_TOL",
    "NAMED_GRIDS",
    "SOLVERS",
    "Certificate",
    "Choice",
    "Fit",
    "HeadCounter",
    "KNearest",
    "LinearHead",
    "LinearSVM",
    "LogisticRegression",
    "NearestCentroid",
    "RidgeClassifier",
    "certify_svm",
    "cross_validate",
    "fit_logistic",
    "fit_path",
    "fit_svm",
    "next_C",
    "pick_C",
]


__getattr__ = lazy_names(__name__, _HOME)
