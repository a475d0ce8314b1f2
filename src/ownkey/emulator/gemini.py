"""Google's Gemini API: generateContent whole and streamed, embeddings, token counts and the model list."""

from collections.abc import Iterator
from typing import Any

import msgspec

from .answers import deltas, signature
from .catalogue import Model
from .dice import count_tokens
from .errors import Scene, failure
from .plan import ID_MARK, Ask, Choice, Draft, Event, EventKind, Json, Part, Refused, Usage
from .reading import PromptReader, strings, tool_list, whole_number

_encode = msgspec.json.encode
_FINISH = {
    "stop": "STOP",
    "length": "MAX_TOKENS",
    "tool_calls": "STOP",
    "refusal": "PROHIBITED_CONTENT",
    "content_filter": "SAFETY",
}


def _refuse(message: str) -> Refused:
    return Refused(failure("google", "bad_request", Scene(detail=message)))


def pick(found: Json, name: str) -> Any:
    """A field under its camelCase or snake_case name: Google takes both."""
    if name in found:
        return found[name]
    return found.get("".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name))


def read(body: Json, model: Model, *, stream: bool) -> Ask:
    """The neutral form of a generateContent request. Raises Refused."""
    contents = body.get("contents")
    if not isinstance(contents, list) or not contents:
        raise _refuse("* GenerateContentRequest.contents: contents is not specified")
    reader = PromptReader(model)
    reader.add_schema_text(body.get("tools"))
    system = pick(body, "systemInstruction")
    if isinstance(system, dict):
        reader.begin("system", is_user=False)
        _read_parts(reader, system.get("parts"))
    for content in contents:
        if not isinstance(content, dict) or content.get("role", "user") not in {"user", "model", "function"}:
            raise _refuse("Please use a valid role: user, model.")
        role = content.get("role", "user")
        reader.begin(role, is_user=role == "user", is_tool=role == "function")
        _read_parts(reader, content.get("parts"))
    ask = Ask(model=model.native or "", stream=stream, include_usage=True, tools=_tools(body))
    config = pick(body, "generationConfig")
    _read_config(ask, config if isinstance(config, dict) else {}, model)
    _read_choice(ask, pick(body, "toolConfig"))
    reader.fill(ask)
    return ask


def _tools(body: Json) -> Any:
    declared = [
        declaration
        for tool in body.get("tools") or ()
        if isinstance(tool, dict)
        for declaration in pick(tool, "functionDeclarations") or ()
        if isinstance(declaration, dict)
    ]
    return tool_list(
        (item.get("name"), pick(item, "parametersJsonSchema") or item.get("parameters")) for item in declared
    )


def _read_parts(reader: PromptReader, parts: Any) -> None:
    for part in parts if isinstance(parts, list) else ():
        if not isinstance(part, dict):
            continue
        if isinstance(part.get("text"), str):
            if not part.get("thought"):
                reader.text(part["text"])
        elif pick(part, "inlineData") or pick(part, "fileData"):
            reader.image()
        elif result := pick(part, "functionResponse"):
            reader.tool_result()
            reader.text(_encode(result).decode(), spoken=False)
        elif call := pick(part, "functionCall"):
            reader.text(_encode(call).decode(), spoken=False)


def _read_config(ask: Ask, config: Json, model: Model) -> None:
    ask.limit = whole_number(pick(config, "maxOutputTokens"))
    if ask.limit is not None and ask.limit < 1:
        raise _refuse("max_output_tokens must be positive")
    ask.n = whole_number(pick(config, "candidateCount")) or 1
    ask.stop = strings(pick(config, "stopSequences"))
    schema = pick(config, "responseJsonSchema") or pick(config, "responseSchema")
    kind = pick(config, "responseMimeType")
    if isinstance(schema, dict):
        ask.schema = schema
    elif kind == "application/json":
        ask.json_object = True
    thinking = pick(config, "thinkingConfig")
    options: Json = thinking if isinstance(thinking, dict) else {}
    ask.thinks = model.thinks and whole_number(pick(options, "thinkingBudget")) != 0
    ask.shows_thoughts = ask.thinks and pick(options, "includeThoughts") is True


def _read_choice(ask: Ask, config: Any) -> None:
    calling = pick(config, "functionCallingConfig") if isinstance(config, dict) else None
    if not isinstance(calling, dict):
        return
    match calling.get("mode"):
        case "ANY":
            ask.tool_mode = "required"
            allowed = strings(pick(calling, "allowedFunctionNames"))
            if allowed:
                ask.tools = tuple(tool for tool in ask.tools if tool.name in allowed)
        case "NONE":
            ask.tool_mode = "none"
        case _:
            pass


# writing


def _modality(name: str, tokens: int) -> list[Json]:
    return [{"modality": "TEXT", "tokenCount": tokens}] if name else []


def usage_json(draft: Draft, output: int, reasoning: int) -> Json | None:
    """usageMetadata once `output` tokens (`reasoning` of them thoughts) exist."""
    usage = draft.usage
    match draft.twist.usage:
        case "missing" | "null":
            return None
        case "zero":
            usage, output, reasoning = Usage(), 0, 0
        case "true":
            pass
    report: Json = {"promptTokenCount": usage.prompt}
    if output - reasoning or draft.twist.usage == "zero":
        report["candidatesTokenCount"] = output - reasoning
    report["totalTokenCount"] = usage.prompt + output
    report["promptTokensDetails"] = _modality("TEXT", usage.prompt)
    if usage.cache_read:
        report["cachedContentTokenCount"] = usage.cache_read
        report["cacheTokensDetails"] = _modality("TEXT", usage.cache_read)
    if reasoning:
        report["thoughtsTokenCount"] = reasoning
    report["serviceTier"] = "standard"
    return report


def _answer(draft: Draft, candidates: list[Json], output: int, reasoning: int) -> Json:
    answer: Json = {"candidates": candidates} if candidates else {}
    if any(choice.finish == "blocked" for choice in draft.choices):
        answer = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}
    if (usage := usage_json(draft, output, reasoning)) is not None:
        answer["usageMetadata"] = usage
    answer["modelVersion"] = draft.served
    answer["responseId"] = ID_MARK
    return answer


def _part(draft: Draft, part: Part, text: str, *, first_call: bool) -> Json:
    match part.kind:
        case "reasoning":
            return {"text": text, "thought": True}
        case "tool":
            made: Json = {"functionCall": {"name": part.name, "args": msgspec.Raw(part.text.encode())}}
            if draft.usage.reasoning and first_call:
                made["thoughtSignature"] = signature(draft.seed, draft.ask.text, part.name)
            return made
        case _:
            return {"text": text}


def _candidate(draft: Draft, index: int, parts: list[Json], choice: Choice | None) -> Json:
    made: Json = {"content": {"parts": parts, "role": "model"} if parts else {"role": "model"}}
    if choice is not None:
        made["finishReason"] = draft.twist.finish_reason or _FINISH.get(choice.finish, "OTHER")
    made["index"] = index
    if choice is not None and choice.finish == "tool_calls":
        made["finishMessage"] = "Model generated function call(s)."
    return made


def _shown(choice: Choice) -> tuple[Part, ...]:
    """Google says nothing where it refuses."""
    return tuple(part for part in choice.parts if part.kind != "refusal")


def whole(draft: Draft) -> bytes:
    """The answer in one piece, indented as Google does."""
    candidates: list[Json] = []
    for index, choice in enumerate(draft.choices):
        calls = choice.calls
        parts = [_part(draft, part, part.text, first_call=bool(calls) and part is calls[0]) for part in _shown(choice)]
        candidates.append(_candidate(draft, index, parts, choice))
    answer = _answer(draft, candidates, draft.usage.output, draft.usage.reasoning)
    return msgspec.json.format(_encode(answer), indent=2) + b"\n"


def whole_list(draft: Draft) -> bytes:
    """What streamGenerateContent gives without `alt=sse`: a JSON array, here of one answer."""
    return b"[" + whole(draft).rstrip() + b"\n]\n"


def events(draft: Draft) -> list[Event]:
    """The answer as server-sent events; every one carries the usage so far."""
    return list(_frames(draft))


def _frames(draft: Draft) -> Iterator[Event]:
    done = reasoning = 0
    for index, choice in enumerate(draft.choices):
        done += choice.hidden_tokens
        reasoning += choice.hidden_tokens
        pieces = [
            (part, piece)
            for part in _shown(choice)
            for piece in (deltas(part.text, draft.delta_tokens) if part.kind != "tool" else [part.text])
        ]
        calls = choice.calls
        before, spoken, current = done, "", None
        for place, (part, piece) in enumerate(pieces):
            if part is not current:
                before, spoken, current = done, "", part
            spoken += piece
            extra = count_tokens(part.name) if part.kind == "tool" else 0
            previous = done
            done = before + count_tokens(spoken) + extra
            if part.kind == "reasoning":
                reasoning += done - previous
            last = place == len(pieces) - 1
            made = _part(draft, part, piece, first_call=bool(calls) and part is calls[0])
            body = _answer(draft, [_candidate(draft, index, [made], choice if last else None)], done, reasoning)
            yield _event("finish" if last else "content", body, done)
        if not pieces:
            done += sum(part.tokens for part in choice.parts)
            body = _answer(draft, [_candidate(draft, index, [], choice)], done, reasoning)
            yield _event("finish", body, done)


def _event(kind: EventKind, body: Json, done: int) -> Event:
    return Event(b"data: " + _encode(body) + b"\r\n\r\n", kind, done)


def error_frame(body: bytes) -> bytes:
    """An error in the middle of a stream, from the body of the same error as an answer."""
    return b"data: " + _encode(msgspec.json.decode(body)) + b"\r\n\r\n"


def model_json(model: Model) -> Json:
    """One entry of the model list."""
    methods = ["embedContent", "countTextTokens", "countTokens", "asyncBatchEmbedContent"]
    if model.kind == "chat":
        methods = ["generateContent", "countTokens", "createCachedContent", "batchGenerateContent"]
    entry: Json = {
        "name": f"models/{model.native}",
        "version": "001",
        "displayName": model.name.removeprefix("Google: "),
        "description": f"Emulated {model.name.removeprefix('Google: ')}.",
        "inputTokenLimit": model.context,
        "outputTokenLimit": model.max_output or 1,
        "supportedGenerationMethods": methods,
    }
    if model.kind == "chat":
        entry.update({"temperature": 1, "topP": 0.95, "topK": 64, "maxTemperature": 2})
        if model.thinks:
            entry["thinking"] = True
    return entry
