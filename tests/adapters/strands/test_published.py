"""The tests of sessions and storages that Strands publishes, with our classes in the place of theirs."""

from __future__ import annotations

from adapters.published import run, sources

FILES = [
    "tests/strands/session/test_repository_session_manager.py",
    "tests/strands/session/test_file_session_manager.py",
    "tests/strands/session/test_snapshot_session_manager.py",
    "tests/strands/storage/test_in_memory_storage.py",
    "tests/strands/storage/test_storage.py",
]

_FILES = "the test looks at the files of FileSessionManager"
_IN_MEMORY = "the test checks rules and options of InMemoryStorage that the protocol does not have"
_EPHEMERAL = "the test needs a storage that Strands marks as lost at the end of the process"
EXPECTED = {
    **dict.fromkeys(
        (
            "test_create_session",
            "test_delete_session",
            "test_create_agent",
            "test_create_message",
            "test_message_durable_id_persists",
            "test_corrupted_json_file",
            "test__get_session_path_invalid_session_id",
            "test__get_agent_path_invalid_agent_id",
            "test__get_message_path_invalid_message_id",
            "test_create_multi_agent",
            "test_create_session_multi_agent_directory_structure",
        ),
        _FILES,
    ),
    **dict.fromkeys(
        (
            "test_key_normalization",
            "test_rejects_empty_key",
            "test_rejects_path_traversal",
            "test_clear",
            "test_namespace",
            "test_namespace_returns_scoped_instance",
            "test_namespace_composes",
            "test_namespace_search_is_scoped",
            "test_namespace_passes_scoped_instance_to_strategy",
            "test_namespace_keeps_subclass_overrides_and_attributes",
            "test_namespace_clear_only_clears_prefix",
            "test_write_indexes_with_search_strategy",
            "test_search_delegates_to_strategy",
            "test_returns_as_is_when_already_namespaced",
        ),
        _IN_MEMORY,
    ),
    **dict.fromkeys(
        (
            "test_save_includes_inline_stash_for_ephemeral_storage",
            "test_save_omits_stash_when_empty",
            "test_delete_session_keeps_shared_stash",
            "test_immutable_snapshot_includes_stash",
            "test_ephemeral_detection_survives_namespacing",
        ),
        _EPHEMERAL,
    ),
}
"""The tests that cannot pass, each with the reason."""


def test_their_tests_pass_with_our_classes(url: str) -> None:
    outcomes = run(sources("strands-agents", "1.62.0"), FILES, plugin="adapters.strands.swap", url=url)
    assert len(outcomes.built) == BUILT
    assert outcomes.skipped == {}
    failed = {name.partition("[")[0]: why for name, why in outcomes.failed.items()}
    assert {name: why for name, why in failed.items() if name not in EXPECTED} == {}
    assert failed.keys() == EXPECTED.keys()


BUILT = 135
"""The number of tests that construct our classes."""
