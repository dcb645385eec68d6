"""OpenAPI document of the machine interface."""

from __future__ import annotations

from typing import Any

from dad_edge.version import __version__

_CAMERA = {"name": "camera", "in": "path", "required": True, "schema": {"type": "string"}}
_PART = {"name": "part", "in": "path", "required": True, "schema": {"type": "string"}}
_ERROR = {
    "description": "What is wrong, and what to do.",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {"error": {"type": "string"}, "next": {"type": "string"}},
            }
        }
    },
}


def document() -> dict[str, Any]:
    """The document."""
    get, put = "get", "put"
    paths = {
        "/inspect": {
            "post": {
                **_operation(
                    "Inspect a picture; answers with its record, as in results.jsonl.",
                    [_query("camera", "string")],
                ),
                "requestBody": {
                    "required": True,
                    "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
                },
            }
        },
        "/api/line": {get: _operation("State of cameras and sinks, latest events.")},
        "/api/hours": {
            get: _operation("Frames by hour, camera and verdict.", [_query("hours", "integer")])
        },
        "/api/notes": {
            get: _operation("Events and unreadable pictures, newest first.",
                            [_query("most", "integer")])
        },
        "/api/parts": {
            get: _operation(
                "Inspected parts, newest first.",
                [
                    _query("camera", "string"),
                    _query("flagged", "boolean"),
                    _query("verdict", "string"),
                    _query("mark", "string"),
                    _query("before", "string"),
                    _query("most", "integer"),
                ],
            )
        },
        "/api/parts/{part}/mark": {
            put: _operation(
                "Say what a part was: fine, defect, or null to take it back.",
                [_PART],
                {"mark": {"type": ["string", "null"], "enum": ["fine", "defect", None]}},
            )
        },
        "/api/parts/{part}/{name}": {
            get: _operation(
                "A picture of a flagged part: frame.png, map.png, view.jpg; or record.json.",
                [_PART, {**_PART, "name": "name"}],
            )
        },
        "/api/cameras/{camera}/frame.jpg": {
            get: _operation("The frame inspected last.", [_CAMERA, _query("look", "string")])
        },
        "/api/cameras/{camera}/what-if": {
            get: _operation(
                "What a threshold would have done to the last 1,000 parts.",
                [_CAMERA, {**_query("threshold", "number"), "required": True}],
            )
        },
        "/api/cameras/{camera}/threshold": {
            put: _operation(
                "Set the image threshold of a camera and of all that share its bundle.",
                [_CAMERA],
                {"threshold": {"type": "number", "minimum": 0, "maximum": 1}},
            )
        },
        "/api/cameras/{camera}/paused": {
            put: _operation("Pause or resume.", [_CAMERA], {"paused": {"type": "boolean"}})
        },
        "/api/reports": {get: _operation("Reports that can be opened under /reports/.")},
        "/healthz": {get: _operation("Whether the process answers.")},
        "/readyz": {get: _operation("200 if every camera inspects, else 503.")},
        "/metrics": {get: _operation("Figures for Prometheus.")},
    }  # fmt: skip
    return {
        "openapi": "3.1.0",
        "info": {"title": "dad-edge line", "version": __version__},
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{"token": []}],
        "paths": paths,
    }


def _query(name: str, kind: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": {"type": kind}}


def _operation(
    about: str,
    parameters: list[dict[str, Any]] | None = None,
    body: dict[str, Any] | None = None,
) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": about,
        "parameters": parameters or [],
        "responses": {"200": {"description": "Done."}, "400": _ERROR, "401": _ERROR},
    }
    if body is not None:
        schema = {"type": "object", "properties": body, "required": list(body)}
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
    return operation
