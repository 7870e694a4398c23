"""What the Gemini REST API accepts in a `generateContent` request, as far as the stand-in needs it.

`check(body)` returns the request with its field names in camel case, or raises `Invalid` with a message that names the
place. Like the real service it takes field names in camel case and in snake case, and refuses names that it does not
know. Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class Invalid(ValueError):
    """The request is one that the Gemini API answers with 400 INVALID_ARGUMENT."""


@dataclass(frozen=True)
class Message:
    """The known fields of a JSON object: `shape` says what is in each."""

    shape: dict[str, Shape]
    required: tuple[str, ...] = ()


@dataclass(frozen=True)
class ListOf:
    """A JSON array of `item`; `filled` if it must not be empty."""

    item: Shape
    filled: bool = False


# A Python type (`object` for any JSON value, `dict` for an object whose field names are the caller's own), a message
# or a list of one of these.
Shape = type | Message | ListOf

_FUNCTION_CALL = Message({"id": str, "name": str, "args": dict}, required=("name",))
_FUNCTION_RESPONSE = Message(
    {"id": str, "name": str, "response": dict, "willContinue": bool, "scheduling": str, "parts": ListOf(dict)},
    required=("name", "response"),
)
# Of these fields of a part exactly one is given.
_DATA = {
    "text": str,
    "inlineData": Message({"mimeType": str, "data": str}, required=("mimeType", "data")),
    "fileData": Message({"mimeType": str, "fileUri": str}, required=("fileUri",)),
    "functionCall": _FUNCTION_CALL,
    "functionResponse": _FUNCTION_RESPONSE,
    "executableCode": Message({"id": str, "language": str, "code": str}, required=("language", "code")),
    "codeExecutionResult": Message({"id": str, "outcome": str, "output": str}, required=("outcome",)),
}
_PART = Message({**_DATA, "thought": bool, "thoughtSignature": str, "partMetadata": dict, "mediaResolution": dict})
_CONTENT = Message({"role": str, "parts": ListOf(_PART, filled=True)}, required=("parts",))
_FUNCTION_DECLARATION = Message(
    {
        "name": str,
        "description": str,
        "behavior": str,
        "parameters": dict,
        "parametersJsonSchema": dict,
        "response": dict,
        "responseJsonSchema": dict,
    },
    required=("name",),
)
_TOOL = Message({"functionDeclarations": ListOf(_FUNCTION_DECLARATION, filled=True)})
_FUNCTION_CALLING = Message({"mode": str, "allowedFunctionNames": ListOf(str)})
_GENERATION_CONFIG = Message(
    {
        "temperature": float,
        "topP": float,
        "topK": float,
        "candidateCount": int,
        "maxOutputTokens": int,
        "stopSequences": ListOf(str),
        "presencePenalty": float,
        "frequencyPenalty": float,
        "seed": int,
        "responseMimeType": str,
        "responseSchema": dict,
        "responseJsonSchema": dict,
        "responseModalities": ListOf(str),
        "thinkingConfig": Message({"includeThoughts": bool, "thinkingBudget": int, "thinkingLevel": str}),
    }
)
_REQUEST = Message(
    {
        "contents": ListOf(_CONTENT, filled=True),
        "systemInstruction": _CONTENT,
        "tools": ListOf(_TOOL),
        "toolConfig": Message({"functionCallingConfig": _FUNCTION_CALLING}),
        "safetySettings": ListOf(Message({"category": str, "threshold": str}, required=("category", "threshold"))),
        "generationConfig": _GENERATION_CONFIG,
        "cachedContent": str,
    },
    required=("contents",),
)

_TYPE_NAMES = {str: "a string", bool: "a boolean", int: "an integer", float: "a number", dict: "an object"}


def check(body: Any) -> dict[str, Any]:
    """The request with all field names in camel case; raises `Invalid` if the API would not take it."""
    request = _shaped(body, _REQUEST, "")
    for at, content in enumerate(request["contents"]):
        if content.get("role", "user") not in ("user", "model"):
            raise Invalid(f"contents[{at}].role: valid roles are user and model, not {content['role']!r}")
        _check_data(content, f"contents[{at}]")
    if "systemInstruction" in request:
        _check_data(request["systemInstruction"], "systemInstruction")
    names = [declaration["name"] for declaration in declarations(request)]
    for name in names:
        _check_function_name(name, "tools")
        if names.count(name) > 1:
            raise Invalid(f"tools: function {name!r} is declared twice")
    _check_turns(request["contents"], names)
    return request


def declarations(request: dict[str, Any]) -> list[dict[str, Any]]:
    """The function declarations of all tools of a checked request."""
    return [one for tool in request.get("tools", []) for one in tool.get("functionDeclarations", [])]


def calls(content: dict[str, Any]) -> list[dict[str, Any]]:
    """The function calls in a content of a checked request."""
    return [part["functionCall"] for part in content["parts"] if "functionCall" in part]


def responses(content: dict[str, Any]) -> list[dict[str, Any]]:
    """The function responses in a content of a checked request."""
    return [part["functionResponse"] for part in content["parts"] if "functionResponse" in part]


def text(content: dict[str, Any]) -> str:
    """The texts in a content of a checked request."""
    return " ".join(part["text"] for part in content["parts"] if "text" in part)


def _shaped(value: Any, shape: Shape, where: str) -> Any:
    if isinstance(shape, ListOf):
        if not isinstance(value, list):
            raise Invalid(f"{where}: must be an array")
        if shape.filled and not value:
            raise Invalid(f"{where}: must not be empty")
        return [_shaped(item, shape.item, f"{where}[{at}]") for at, item in enumerate(value)]
    if isinstance(shape, Message):
        return _shaped_message(value, shape, where)
    # In JSON a number may be written without a fraction, and in Python a bool is an int: neither is meant here.
    right = isinstance(value, (int, float) if shape is float else shape)
    if not right or (isinstance(value, bool) and shape in (int, float)):
        raise Invalid(f"{where}: must be {_TYPE_NAMES.get(shape, shape.__name__)}")
    return value


def _shaped_message(value: Any, message: Message, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Invalid(f"{where or 'request'}: must be an object")
    out: dict[str, Any] = {}
    for given, field in value.items():
        name = _camel(given)
        place = f"{where}.{name}" if where else name
        if name not in message.shape:
            raise Invalid(f"unknown name {given!r} at {where or 'request'}: there is no such field")
        if name in out:
            raise Invalid(f"{place}: given twice")
        out[name] = _shaped(field, message.shape[name], place)
    for name in message.required:
        if name not in out:
            raise Invalid(f"{where}.{name}: is missing" if where else f"{name}: is missing")
    return out


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in rest)


def _check_data(content: dict[str, Any], where: str) -> None:
    for at, part in enumerate(content["parts"]):
        given = [name for name in _DATA if name in part]
        if len(given) != 1:
            raise Invalid(f"{where}.parts[{at}]: exactly one kind of data is needed, not {given or 'none'}")


def _check_function_name(name: str, where: str) -> None:
    allowed = name.replace("_", "a").replace("-", "a").replace(".", "a").replace(":", "a")
    if not (name[:1].isalpha() or name[:1] == "_") or not (allowed.isascii() and allowed.isalnum()) or len(name) > 64:
        raise Invalid(f"{where}: invalid function name {name!r}")


def _check_turns(contents: list[dict[str, Any]], declared: list[str]) -> None:
    """Calls come from the model; the content after them answers every one of them and nothing else."""
    open_calls: list[dict[str, Any]] = []
    for at, content in enumerate(contents):
        where = f"contents[{at}]"
        role, answers, asked = content.get("role", "user"), responses(content), calls(content)
        if asked and role != "model":
            raise Invalid(f"{where}: a function call needs the role model")
        if answers and role != "user":
            raise Invalid(f"{where}: a function response needs the role user")
        if asked and at == 0:
            raise Invalid(f"{where}: a function call must follow a user's turn or a function response")
        for call in asked:
            if call["name"] not in declared:
                raise Invalid(f"{where}: the called function {call['name']!r} is not declared")
        _check_answers(open_calls, answers, where)
        open_calls = asked
    if open_calls:
        raise Invalid(f"contents[{len(contents) - 1}]: the function calls have no response")
    if contents[-1].get("role", "user") != "user":
        raise Invalid("contents: the last turn must be the user's")


def _check_answers(open_calls: list[dict[str, Any]], answers: list[dict[str, Any]], where: str) -> None:
    if len(answers) != len(open_calls):
        raise Invalid(f"{where}: {len(answers)} function responses to {len(open_calls)} function calls")
    waiting = list(open_calls)
    for answer in answers:
        for call in waiting:
            if call["name"] == answer["name"] and call.get("id") == answer.get("id"):
                waiting.remove(call)
                break
        else:
            raise Invalid(f"{where}: function response {answer['name']!r} answers no call of the turn before")
