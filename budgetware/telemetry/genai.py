"""Token usage of model calls, and living beside the official instrumentors.

Those look in the context for somebody who observes the call already; then they make no span and
no metric of their own, and leave there what the provider reported. Their package is never
imported from here: where nobody else has, no instrumentor is at work. Not here: what is charged.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from opentelemetry.context import get_value

from . import names
from .values import Attributes, bounded, clean

if TYPE_CHECKING:
    from ..usage import Usage

_MODULE = "opentelemetry.util.genai.invocation"
_REPORTED = (
    ("usage_input_tokens", names.INPUT_TOKENS),
    ("usage_output_tokens", names.OUTPUT_TOKENS),
    ("usage_cache_read_input_tokens", names.CACHE_READ_TOKENS),
    ("usage_cache_write_input_tokens", names.CACHE_WRITE_TOKENS),
    ("usage_reasoning_output_tokens", names.REASONING_TOKENS),
)


def usage_attributes(usage: Usage, *, has_output: bool) -> Attributes:
    """The usage of one model call; input includes what was cached, output what was reasoned."""
    amounts = usage.amounts()
    attributes: Attributes = {names.INPUT_TOKENS: bounded(amounts["input_tokens"])}
    if has_output:
        attributes[names.OUTPUT_TOKENS] = bounded(amounts["output_tokens"])
    if usage.cache_read_tokens:
        attributes[names.CACHE_READ_TOKENS] = usage.cache_read_tokens
    if usage.cache_write_tokens:
        attributes[names.CACHE_WRITE_TOKENS] = usage.cache_write_tokens
    if usage.reasoning_tokens:
        attributes[names.REASONING_TOKENS] = usage.reasoning_tokens
    if usage.model:
        attributes[names.RESPONSE_MODEL] = clean(usage.model)
    if usage.provider:
        attributes[names.PROVIDER] = clean(usage.provider)
    return attributes


def inference_data() -> Any:
    """What an official instrumentor fills in for us.

    None where none is loaded, or where somebody around us has offered theirs.
    """
    module = sys.modules.get(_MODULE)
    if module is None or get_value(names.INFERENCE_CONTEXT) is not None:
        return None
    make = getattr(module, "InferenceData", None)
    return None if make is None else make()


def reported_attributes(data: Any) -> Attributes:
    """What such an instrumentor has left there."""
    attributes: Attributes = {}
    for field, key in _REPORTED:
        count = getattr(data, field, None)
        if type(count) is int and count >= 0:
            attributes[key] = bounded(count)
    for field, key in (
        ("response_model", names.RESPONSE_MODEL),
        ("provider_name", names.PROVIDER),
    ):
        text = getattr(data, field, None)
        if isinstance(text, str) and text:
            attributes[key] = clean(text)
    return attributes
