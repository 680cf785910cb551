"""Reads messages as a mail program, an X-ARF parser and XARF's own validator do; says what is in them as JSON, one line each.

The messages come on the standard input, a line `--8<--` behind each.
"""
import email, email.policy, json, sys
import xarf, yaml


def judged(document):
    return [f"{error.field}: {error.message}" for error in xarf.parse(document).errors]


for text in sys.stdin.read().split("--8<--\n")[:-1]:
    message = email.message_from_string(text, policy=email.policy.default)
    parts = [part for part in message.walk() if not part.is_multipart()]
    found = {
        "headers": {name.lower(): str(value) for name, value in message.items()},
        "defects": [repr(defect) for part in [message, *parts] for defect in part.defects],
        "types": [part.get_content_type() for part in parts],
        "text": parts[0].get_content(),
        "lines": [part.get_content() for part in parts if (part.get_filename() or "").startswith("log-")],
    }
    for part in parts:
        if part.get_filename() == "report.txt":
            found["yaml"] = {str(key): str(value) for key, value in yaml.safe_load(part.get_content()).items()}
        if (part.get_filename() or "").startswith("xarf-"):
            document = json.loads(part.get_content() if isinstance(part.get_content(), str) else part.get_content().decode())
            found["xarf"] = document
            found["errors"] = judged(json.dumps(document))
            without = {key: value for key, value in document.items() if key != "source_port"}
            found["errors_without_port"] = judged(json.dumps(without))
    print(json.dumps(found))
