"""From a request body to a whole answer: who answers, what it says, what it costs."""

from dataclasses import replace
from typing import Any

import msgspec

from ownkey.domain.money import ceil_div

from . import chat, gemini, messages, responses
from .answers import DEFAULT, Settings, Writer, directed, usage_of
from .catalogue import Catalogue, Model, rates
from .embeddings import embed, pack_base64
from .errors import Scene, failure
from .keys import Key
from .plan import HONEST, ID_MARK, Ask, Choice, Cost, Draft, Failure, Json, Plan, Refused, Twist, Usage
from .reading import whole_number

_encode = msgspec.json.encode


class Planner:
    """Plans answers. Knows models, prices and the writer; knows no connections and no bills."""

    def __init__(self, seed: int, catalogue: Catalogue) -> None:
        self.seed = seed
        self.catalogue = catalogue
        self.writer = Writer(seed)

    # models

    def find_model(self, provider: str, name: str, asked: str, kind: str) -> Model:
        """The model, or Refused as the provider refuses an unknown one."""
        model = self.catalogue.find(provider, asked)
        wanted = "embedding" if name in {"embeddings", "embedContent", "batchEmbedContents"} else "chat"
        if model is not None and model.kind == wanted:
            return model
        scene = Scene(model=asked, request_id=ID_MARK, method=kind)
        missing = "model_missing_404"
        if name == "responses" and provider == "openai":
            missing = "model_missing_400"
        elif provider == "openrouter":
            missing = "no_endpoints_404" if model is not None else "model_missing_400"
        raise Refused(failure(provider, missing, scene))

    def _within_price(self, model: Model, body: Json) -> bool:
        """False if OpenRouter's `provider.max_price` is below the model's price."""
        wish = body.get("provider")
        ceiling = wish.get("max_price") if isinstance(wish, dict) else None
        if not isinstance(ceiling, dict):
            return True
        asked = self.catalogue.price("openrouter", model).rates
        for name, price in (("prompt", asked.input), ("completion", asked.output)):
            if ceiling.get(name) is not None and rates(str(ceiling[name])).input < price:
                return False
        return True

    def candidates(self, provider: str, name: str, body: Json) -> list[Model]:
        """The models that may answer, best first: one, or OpenRouter's fallbacks. Raises Refused if there is none."""
        asked = body.get("model")
        names = [asked] if isinstance(asked, str) else []
        if provider == "openrouter" and isinstance(body.get("models"), list):
            names += [other for other in body["models"] if isinstance(other, str) and other not in names]
        if not names:
            detail = "you must provide a model parameter" if provider == "openai" else "model: Field required"
            raise Refused(failure(provider, "bad_request", Scene(detail=detail, request_id=ID_MARK)))
        found: list[Model] = []
        refused: Refused | None = None
        for one in names:
            try:
                model = self.find_model(provider, name, one, name)
                if provider == "openrouter" and not self._within_price(model, body):
                    raise Refused(failure(provider, "max_price_404", Scene(model=one)))
                found.append(model)
            except Refused as error:
                refused = refused or error
        if not found and refused is not None:
            raise refused
        return found

    # answers

    def read(self, provider: str, name: str, body: Json, model: Model) -> Ask:
        """The neutral form of a generating request. Raises Refused."""
        match name:
            case "chat":
                ask = chat.read(body, provider, model)
            case "messages":
                ask = messages.read(body, provider, model)
            case "responses":
                ask = responses.read(body, provider, model)
            case _:
                ask = gemini.read(body, model, stream=name == "streamGenerateContent")
        if ask.input_tokens > model.context:
            scene = Scene(model=ask.model, request_id=ID_MARK, tokens=ask.input_tokens, limit=model.context)
            raise Refused(failure(provider, "context_too_long", scene))
        return ask

    def plan(
        self,
        provider: str,
        name: str,
        ask: Ask,
        model: Model,
        key: Key,
        settings: Settings = DEFAULT,
        twist: Twist = HONEST,
    ) -> Plan:
        """The whole answer to `ask`."""
        try:
            settings = directed(settings, ask.text)
        except ValueError as error:
            raise Refused(failure(provider, "bad_request", Scene(detail=str(error), request_id=ID_MARK))) from error
        if settings.reasoning_tokens and provider in {"google", "openai"} and model.thinks:
            ask.thinks = True
        choices: tuple[Choice, ...] = self.writer.choices(ask, model, settings)
        usage = usage_of(ask, choices, settings, key.cached)
        cost = self.cost(provider, model, usage, settings)
        served = served_name(provider, model)
        draft = Draft(provider, ask, model, served, choices, usage, cost, settings.delta_tokens, twist, self.seed)
        if twist.native_error:
            draft = replace(draft, choices=tuple(replace(choice, parts=()) for choice in choices))
        keep = not ask.cache_points and twist is HONEST
        finish = choices[0].finish
        if not ask.stream:
            body = _WHOLE[name](draft)
            return Plan(model, served, usage, cost, False, body=body, keep=keep, finish=finish)
        events = tuple(_EVENTS[name](draft))
        joined = b"".join(event.data for event in events)
        return Plan(model, served, usage, cost, True, events=events, joined=joined, keep=keep, finish=finish)

    def cost(self, provider: str, model: Model, usage: Usage, settings: Settings = DEFAULT) -> Cost:
        """What the customer pays, in whole nano-dollars, rounded up once."""
        asked = self.catalogue.price(provider, model).rates_for(usage.prompt)
        tokens = (usage.input, usage.cache_read, usage.cache_write_5m, usage.cache_write_1h, usage.output)
        extra = settings.request_fee_nusd if provider == "openrouter" else 0
        upstream = asked.cost_nusd(tokens) + extra
        completions = asked.cost_nusd((0, 0, 0, 0, usage.output))
        if provider != "openrouter" or not settings.is_byok:
            return Cost(upstream, completions, upstream, 0, extra_nusd=extra)
        fee = ceil_div(upstream * settings.byok_fee_percent, 100)
        return Cost(upstream + fee, completions, upstream, fee, is_byok=True, extra_nusd=extra)

    # embeddings

    def embeddings(self, provider: str, body: Json, model: Model, settings: Settings) -> Plan:
        """OpenAI's and OpenRouter's embeddings."""
        inputs = _inputs(body.get("input"))
        if inputs is None:
            raise Refused(failure(provider, "bad_request", Scene(detail="'$.input' is invalid.")))
        dimensions = whole_number(body.get("dimensions")) or model.dimensions
        if not 1 <= dimensions <= model.dimensions:
            raise Refused(failure(provider, "bad_request", Scene(detail=f"Invalid 'dimensions': {dimensions}.")))
        base64 = body.get("encoding_format") == "base64"
        data: list[Json] = []
        tokens = 0
        for index, (text, size) in enumerate(inputs):
            if size > model.context:
                scene = Scene(model=model.slug, tokens=size, limit=model.context)
                raise Refused(failure(provider, "context_too_long", scene))
            tokens += size
            vector = embed(model.canonical, text, model.dimensions, dimensions)
            entry: Json = {"object": "embedding", "index": index}
            entry["embedding"] = pack_base64(vector) if base64 else vector
            data.append(entry)
        usage = Usage(input=tokens)
        cost = self.cost(provider, model, usage, settings)
        served = model.slug if provider == "openrouter" else model.dated
        answer: Json = {"object": "list", "data": data, "model": served}
        answer["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
        if provider == "openrouter":
            answer["id"] = ID_MARK
            answer["usage"]["cost"] = chat.digits(cost.fee_nusd if cost.is_byok else cost.nusd)
            answer["usage"]["is_byok"] = cost.is_byok
            answer["usage"]["cost_details"] = chat.cost_details(cost)
        if not settings.embedding_usage:
            del answer["usage"]
        return Plan(model, served, usage, cost, False, body=_encode(answer))

    def google_embeddings(self, name: str, body: Json, model: Model, settings: Settings) -> Plan:
        """Google's embedContent and batchEmbedContents."""
        requests = body.get("requests") if name == "batchEmbedContents" else [body]
        if not isinstance(requests, list) or not requests:
            raise Refused(failure("google", "bad_request", Scene(detail="* BatchEmbedContentsRequest.requests: empty")))
        made: list[Json] = []
        tokens = 0
        for one in requests:
            text = _content_text(one)
            tokens += _tokens(text)
            wanted = whole_number(gemini.pick(one, "outputDimensionality")) if isinstance(one, dict) else None
            dimensions = min(wanted or model.dimensions, model.dimensions)
            made.append({"values": embed(model.canonical, text, model.dimensions, dimensions)})
        usage = Usage(input=tokens)
        answer: Json = {"embeddings": made} if name == "batchEmbedContents" else {"embedding": made[0]}
        if settings.embedding_usage and settings.google_embedding_usage:
            answer["usageMetadata"] = {"promptTokenCount": tokens, "totalTokenCount": tokens}
        cost = self.cost("google", model, usage, settings)
        return Plan(model, model.dated, usage, cost, False, body=_encode(answer))


def served_name(provider: str, model: Model) -> str:
    """The name an answer carries. OpenRouter keeps the slug of OpenAI's older models, as its recordings show."""
    if provider != "openrouter":
        return model.dated
    return model.slug if model.maker == "openai" and not model.thinks else model.canonical


def error_frame(provider: str, name: str, plan: Plan, ask: Ask, refusal: Failure, *, bare: bool = False) -> bytes:
    """A refusal's body as a frame in the middle of a stream. `bare`: as it is, without any framing."""
    if bare:
        return msgspec.json.format(refusal.body, indent=2) + b"\n"
    draft = Draft(provider, ask, plan.model, plan.served, (), plan.usage, plan.cost)
    match name:
        case "messages":
            return messages.error_frame(refusal.body)
        case "responses":
            return responses.error_frame(draft, refusal.body)
        case "chat":
            return chat.error_frame(draft, refusal.body)
        case _:
            return gemini.error_frame(refusal.body)


def _tokens(text: str) -> int:
    return max(1, (len(text.encode("utf-8", "surrogatepass")) + 3) // 4)


def _inputs(found: Any) -> list[tuple[str, int]] | None:
    """(text, tokens) of each input: a string, strings, a list of token numbers, or lists of them."""
    if isinstance(found, str):
        return [(found, _tokens(found))] if found else None
    if not isinstance(found, list) or not found:
        return None
    if all(isinstance(item, int) for item in found):
        return [(_encode(found).decode(), len(found))]
    made: list[tuple[str, int]] = []
    for item in found:
        if isinstance(item, str) and item:
            made.append((item, _tokens(item)))
        elif isinstance(item, list) and item and all(isinstance(number, int) for number in item):
            made.append((_encode(item).decode(), len(item)))
        else:
            return None
    return made


def _content_text(request: Any) -> str:
    content = request.get("content") if isinstance(request, dict) else None
    parts = content.get("parts") if isinstance(content, dict) else None
    texts = [str(part.get("text", "")) for part in parts or () if isinstance(part, dict)]
    if not texts:
        raise Refused(failure("google", "bad_request", Scene(detail="* EmbedContentRequest.content: empty")))
    return "".join(texts)


_WHOLE = {
    "chat": chat.whole,
    "messages": messages.whole,
    "responses": responses.whole,
    "generateContent": gemini.whole,
    "streamGenerateContent": gemini.whole_list,
}
_EVENTS: dict[str, Any] = {
    "chat": chat.events,
    "messages": messages.events,
    "responses": responses.events,
    "generateContent": gemini.events,
    "streamGenerateContent": gemini.events,
}
