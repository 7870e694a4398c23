#!/usr/bin/env python3
"""Coverage of the rules by the test vectors: for each rule id, how many cases show it, and how many of these reject.

A case shows the rules that it names, and rejects by those in its `dropped`. It fails if a rule of core/src/rule.rs has
no case that it lets pass, or, where it can leave something out, none in which it does. Ids that no header is judged by
(OJ, SET, HH and others) are listed, too.
"""

import json
import re
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RULE = re.compile(r'^    \w+ = "([^"]+)", (true|false),$', re.MULTILINE)


def dropped(case: dict) -> set[str]:
    """The ids of the rules by which something was left out in a case."""
    expected = case.get("expected")
    return set(expected.get("dropped") or []) if isinstance(expected, dict) else set()


def main() -> int:
    rules = {name: rejects == "true" for name, rejects in RULE.findall((ROOT / "core/src/rule.rs").read_text())}
    accepting: defaultdict[str, int] = defaultdict(int)
    rejecting: defaultdict[str, int] = defaultdict(int)
    files: defaultdict[str, set[str]] = defaultdict(set)
    total = 0
    for path in sorted((ROOT / "tests/vectors").glob("*.json")):
        for case in json.loads(path.read_text(encoding="utf-8"))["cases"]:
            total += 1
            out = dropped(case)
            for name in out | set(case["rules"]):
                (rejecting if name in out else accepting)[name] += 1
                files[name].add(path.stem)

    missing = []
    print(f"{'rule':<28} {'accept':>6} {'reject':>6}  files")
    for name in [*rules, *sorted(set(files) - set(rules))]:
        note = ""
        if name in rules and not accepting[name]:
            note = "  NO ACCEPTING CASE"
        elif rules.get(name) and not rejecting[name]:
            note = "  NO REJECTING CASE"
        if note:
            missing.append(name)
        reject = rejecting[name] if rules.get(name) else "-"
        print(f"{name:<28} {accepting[name]:>6} {reject:>6}  {', '.join(sorted(files[name]))}{note}")
    counted = len(rules)
    others = len(set(files) - set(rules))
    print(f"{total} cases; {counted} rules that are counted, {others} others; {len(missing)} not covered")
    return 1 if missing or not rules else 0


if __name__ == "__main__":
    sys.exit(main())
