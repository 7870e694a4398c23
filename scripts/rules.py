#!/usr/bin/env python3
"""Coverage of the rules by the test vectors: for each rule id, how many cases show it, and how many of these reject.

A case shows the rules that it names, and rejects by those in its `dropped`. It fails if a rule of core/src/rule.rs has
no case that it lets pass, or, where it can leave something out, none in which it does; if a rule of the headers'
specifications that nothing is counted by has no case; if one of the rules that say what requests about sessions hold
(REG) has none; and if the id of one of them stands nowhere in core/src, where a reader looks for the code. Ids that no
header is judged by (OJ, SET, HH and others) are listed, too.
"""

import json
import re
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# traceparent, tracestate and baggage have so many rules.
HEADERS = [f"{kind}{number}" for kind, last in (("TP", 18), ("TS", 12), ("B", 15)) for number in range(1, last + 1)]
# The others say when requests go out, which no case can show: tests of the queue and of the bindings do.
REGISTRATION = ["REG2", "REG3", "REG6"]
WANTED = [*HEADERS, *REGISTRATION]
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

    code = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "core/src").rglob("*.rs")))
    mentioned = set(re.findall(r"\b(?:TP|TS|B|REG)\d+", code))

    missing = []
    print(f"{'rule':<28} {'accept':>6} {'reject':>6}  files")
    for name in [*rules, *sorted({*files, *WANTED} - set(rules))]:
        note = ""
        if (name in rules or name in WANTED) and not accepting[name]:
            note = "  NO ACCEPTING CASE"
        elif rules.get(name) and not rejecting[name]:
            note = "  NO REJECTING CASE"
        elif name in WANTED and name not in mentioned:
            note = "  NOT IN THE CODE"
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
