"""Ids that a faulty backend may fold, cut, split, escape, expand or execute, and values that are not ids."""

from __future__ import annotations

from typing import Any

IDS = [
    *["Ab", "ab", "AB", "ab ", " ab", "a b", "ab.", "ab\u200b", "\u00e1b", "a\u0301b", "aa", "\u00e5", "\u212b"],
    *["\ufb01", "a:b", "a", "b", ":", "::", "a::b", "a:b:c", "{x}", "{x}}", "{}", "}", "{", "x:meta", "x:turns", "x"],
    *["fi", "*", "?", "[a]", "a[b-z]", "%", "_", "a%", "a_", "ac%", "\\", "\\%", "^", "$", ".", "'", '"', "`"],
    *["';--", "x') OR '1'='1", "; DROP TABLE sessions", "%s", ":name", "$1", "?1", "{0}", "${HOME}", "%00", ".."],
    *["../../x", "..\\..\\x", "/", "/etc/passwd", "C:\\x", "CON", "nul.txt", "~", "-", "--help", "x/", "x//", "./x"],
    *["0", "00", "0.0", "1e3", "1000", "-1", "None", "null", "true", "NaN", "default", "#", "&", "=", "a=b&c", "+"],
    *["a+b", "\U0001f600", "\U0001f468\u200d\U0001f469", "你好", "日本", "\u0df4", "ß", "ss", "a%20b", "\u0130", "i"],
    *["I", "\u0131", "\u03a3", "\u03c3", "\u03c2", "x" * 255, "x" * 254 + "y", "x" * 254, "é" * 127, "é" * 126 + "è"],
    *["\U0001f600" * 63 + "abc", "X" * 255],
]
"""Different ids: no two of them name the same session."""

NO_IDS: list[Any] = [
    *[None, 7, b"bytes", "", " ", "\t", "\u2003", "x" * 256, "é" * 128, "a\0b", "a\nb", "\x7f", "\x85", "\u202eab"],
    *["\u2028", "\ud800"],
]
"""Values that a store refuses as ids."""

KEYS = [
    *[("a:b", "c"), ("a", "b:c"), ("a", "b"), ("a:b:c", "d"), ("a::b", "c"), ("a", ":b:c"), ("1:a", "b")],
    *[("a/b", "c"), ("a", "b/c"), ("a-b", "c"), ("a", "b-c"), ("a.b", "c"), ("a", "b.c"), ("ab", "c"), ("a", "bc")],
    *[("A", "b"), ("a", "B"), ("a ", "b"), ("a", " b"), ("b", "a"), ("a%", "b"), ("a", "%b"), ("{a}", "b")],
    *[("a", "{b}"), ("x" * 255, "y"), ("x" * 255, "x"), ("x", "x" * 255), ("acme", "s"), ("acme-corp", "s")],
    *[("default", "s")],
]
"""Pairs of a namespace and a session id that become equal if they are joined without escaping."""
