"""The names that telemetry uses, with the versions of the semantic conventions that define them."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

SCOPE: Final = "turnlog_telemetry"
"""The instrumentation scope of all spans and metrics."""

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
"""Semantic conventions 1.44.0, for the two groups below."""

# ------------------------------------------------------------------------------ database conventions 1.44.0, stable
# https://github.com/open-telemetry/semantic-conventions/tree/v1.44.0/docs/db

DB_SYSTEM_NAME: Final = "db.system.name"
DB_NAMESPACE: Final = "db.namespace"
DB_OPERATION_NAME: Final = "db.operation.name"
DB_OPERATION_BATCH_SIZE: Final = "db.operation.batch.size"
DB_RESPONSE_STATUS_CODE: Final = "db.response.status_code"
ERROR_TYPE: Final = "error.type"

DB_CLIENT_OPERATION_DURATION: Final = "db.client.operation.duration"

DURATION_BUCKETS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
"""The bucket boundaries in seconds that the conventions recommend for `DB_CLIENT_OPERATION_DURATION`."""

# --------------------------------------------------------------------------- conventions 1.44.0, status Development

DB_RESPONSE_RETURNED_ROWS: Final = "db.response.returned_rows"
ENDUSER_ID: Final = "enduser.id"

# ------------------------------------------------------------------- GenAI conventions 0.1.0, status Development
# https://github.com/open-telemetry/semantic-conventions-genai/blob/v0.1.0/docs/gen-ai/gen-ai-spans.md#memory

GEN_AI_OPERATION_NAME: Final = "gen_ai.operation.name"
GEN_AI_CONVERSATION_ID: Final = "gen_ai.conversation.id"
GEN_AI_MEMORY_STORE_ID: Final = "gen_ai.memory.store.id"
GEN_AI_MEMORY_RECORD_COUNT: Final = "gen_ai.memory.record.count"

MEMORY_OPERATIONS: Final = MappingProxyType(
    {
        "read": "search_memory",
        "page": "search_memory",
        "commit": "upsert_memory",
        "copy": "create_memory",
        "seal": "update_memory",
        "delete": "delete_memory",
    }
)
"""The value of `GEN_AI_OPERATION_NAME` for each operation of a backend that works on sessions."""

# ------------------------------------------------------------------------------------------------- turnlog's own

TURNLOG_BYTES: Final = "turnlog.bytes"
TURNLOG_MESSAGES: Final = "turnlog.messages"
TURNLOG_REPEATS: Final = "turnlog.repeats"
TURNLOG_REPEAT: Final = "turnlog.repeat"
