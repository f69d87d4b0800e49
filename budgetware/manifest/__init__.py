"""The manifest: ledger, resources, budgets and principals as a TOML file.

Here it is read and checked as a whole. Not here: a service that puts it into force.
"""

from .definition import Manifest, Template
from .problems import MAX_PROBLEMS, Problem, manifest_error, shown_file
from .reading import check_manifest, check_text, parse_manifest, read_manifest

__all__ = [
    "MAX_PROBLEMS",
    "Manifest",
    "Problem",
    "Template",
    "check_manifest",
    "check_text",
    "manifest_error",
    "parse_manifest",
    "read_manifest",
    "shown_file",
]
