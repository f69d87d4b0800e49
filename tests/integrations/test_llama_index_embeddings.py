"""Embeddings of LlamaIndex."""

import pytest
from anyio import to_thread
from llama_index.embeddings.openai import OpenAIEmbedding  # type: ignore[import-untyped]

from budgetware import BudgetExceeded, task_budget
from budgetware_integrations.llama_index import budget
from tests.integrations.provider import Provider

NEEDS = "llama-index-llms-openai"

# Of LlamaIndex itself, which asks its classes for what pydantic has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecationWarning")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_embeddings_are_charged_what_their_texts_are_counted_at(
    provider: Provider,
) -> None:
    made = OpenAIEmbedding(api_base=f"{provider.url}/v1", api_key="k", embed_batch_size=2)
    model = budget(
        made, count_tokens=lambda asked: 10 * (1 if isinstance(asked, str) else len(asked))
    )
    async with task_budget(tokens=1_000_000) as paid:
        assert len(await to_thread.run_sync(model.get_query_embedding, "one")) == 2
        assert len(await to_thread.run_sync(model.get_text_embedding_batch, list("abc"))) == 3
    assert provider.count() == paid.spent("calls") == 3
    assert paid.spent("input_tokens") == paid.spent("tokens") == 40
    assert paid.spent("output_tokens") == 0
    made._get_client().close()


def test_embeddings_that_are_refused_are_not_sent(provider: Provider) -> None:
    model = budget(OpenAIEmbedding(api_base=f"{provider.url}/v1", api_key="k"))
    with pytest.raises(BudgetExceeded), task_budget(tokens=1):
        model.get_text_embedding("Where do rivers flow?")
    assert provider.count() == 0


def test_short_texts_are_embedded_at_no_less_than_they_have(provider: Provider) -> None:
    made = OpenAIEmbedding(api_base=f"{provider.url}/v1", api_key="k", embed_batch_size=50)
    with task_budget(tokens=1_000_000) as paid:
        budget(made).get_text_embedding_batch(["a b"] * 50)
    assert paid.spent("tokens") >= 100
    made._get_client().close()
