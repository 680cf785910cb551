"""The process in which one action written in Python lives.

The daemon writes a request as a line of JSON on our standard input and reads lines from our
standard output: what the action logs, what it wants to know, and at the end the outcome. The action
itself sees neither: its standard input is empty, and what it prints goes to standard error.

An action was written for Fail2Ban's server. The names it imports from there are given here, from
what is known of their behaviour; nothing else of that server is.
"""

import collections.abc
import importlib.util
import json
import logging
import math
import os
import sys
import threading
import time
import traceback
import types

MAX_TEXT = 16 * 1024  # of one message, in characters
MAX_DEPTH = 20  # of a value
MAX_ITEMS = 10_000  # of a value

sys.dont_write_bytecode = True
sys.path[:] = [folder for folder in sys.path if folder]

# the two ends of the daemon are ours alone, and no child of the action inherits them
requests = os.fdopen(os.dup(0), "rb")
replies = os.fdopen(os.dup(1), "wb", buffering=0)
nothing = os.open(os.devnull, os.O_RDONLY)
os.dup2(nothing, 0)
os.close(nothing)
os.dup2(2, 1)
turn = threading.Lock()


def say(message):
    text = json.dumps(message, allow_nan=False)
    with turn:
        data = memoryview(text.encode("ascii") + b"\n")
        while data:
            data = data[replies.write(data) :]


def hear():
    line = requests.readline()
    if not line:
        sys.stderr.flush()
        os._exit(0)
    return json.loads(line)


# --- values: JSON has no tuples, sets and numbers without end; an object names what it stands for


def text(value):
    # what is no Unicode cannot be sent
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")


def packed(value, depth=0):
    if depth > MAX_DEPTH:
        raise TypeError("the value is nested too deeply")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**63 else str(int(value))
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": str(float(value))}
    if isinstance(value, str):
        return text(value)
    if isinstance(value, (bytes, bytearray)):
        return repr(bytes(value))
    if isinstance(value, (list, tuple, set, frozenset, dict)) and len(value) > MAX_ITEMS:
        raise TypeError("the value has too many items")
    if isinstance(value, list):
        return [packed(item, depth + 1) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [packed(item, depth + 1) for item in value]}
    if isinstance(value, (set, frozenset)):
        return {"set": [packed(item, depth + 1) for item in value]}
    if isinstance(value, dict):
        return {"map": [[packed(key, depth + 1), packed(item, depth + 1)] for key, item in value.items()]}
    raise TypeError("a value of type '%s' cannot be sent" % type(value).__name__)


def unpacked(value):
    if isinstance(value, list):
        return [unpacked(item) for item in value]
    if isinstance(value, dict):
        ((kind, inner),) = value.items()
        if kind == "tuple":
            return tuple(unpacked(item) for item in inner)
        if kind == "set":
            return {unpacked(item) for item in inner}
        if kind == "float":
            return float(inner)
        return {unpacked(key): unpacked(item) for key, item in inner}
    return value


# --- what an action finds of the server it was written for


class IPAddr(str):
    """An identifier, mostly an address: a text that knows its family."""

    def __new__(cls, value, family=None):
        self = super().__new__(cls, value)
        self.familyStr = family
        return self

    @property
    def isIPv4(self):
        return self.familyStr == "inet4"

    @property
    def isIPv6(self):
        return self.familyStr == "inet6"

    @property
    def isValid(self):
        return self.familyStr is not None


class CallingMap(collections.abc.MutableMapping):
    """A mapping; a value that is a function is called when it is wanted, and its result kept."""

    def __init__(self, *given, **named):
        self.data = dict(*given, **named)

    def _called(self, function):
        return function()

    def __getitem__(self, key):
        value = self.data[key]
        if callable(value):
            value = self.data[key] = self._called(value)
        return value

    def __setitem__(self, key, value):
        self.data[key] = value

    def __delitem__(self, key):
        del self.data[key]

    def __iter__(self):
        return iter(self.data)

    def __len__(self):
        return len(self.data)

    def __contains__(self, key):
        return key in self.data

    def __repr__(self):
        return "%s(%r)" % (type(self).__name__, self.data)

    def copy(self):
        other = type(self)()
        other.data = dict(self.data)
        return other


class ActionInfo(CallingMap):
    """What an action is told about a ban."""


class Jail:
    """The jail as its action sees it."""

    idle = False
    database = None

    def __init__(self, name):
        self.name = name
        self.actions = Actions(name)

    def __getattr__(self, name):
        raise AttributeError("'Jail' object has no attribute '%s'; there are name and actions.getBanTime()" % name)

    def __repr__(self):
        return "Jail(%r)" % self.name


class Actions:
    """The actions of a jail, as one of them sees them."""

    def __init__(self, name):
        self._name = name
        self._bantime = 0

    def getBanTime(self):
        return self._bantime


class ActionBase:
    """What actions inherit: nothing happens unless they say so."""

    _prolongable = False

    def __init__(self, jail, name):
        self._jail = jail
        self._name = name
        self._logSys = getLogger("fail2ban.%s" % type(self).__name__)

    def start(self):
        pass

    def stop(self):
        pass

    def ban(self, aInfo):
        pass

    def reban(self, aInfo):
        return self.ban(aInfo)

    def unban(self, aInfo):
        pass


# --- the log: messages go to the daemon, which knows what to do with them


class Forwarder(logging.Handler):
    def emit(self, record):
        try:
            message = record.getMessage()
            if record.exc_info and record.exc_info[1] is not None:
                message += ": %s" % record.exc_info[1]
            part = record.name[9:] if record.name.startswith("fail2ban.") else record.name
            say({"log": [record.levelno, text(part), text(message)[:MAX_TEXT]]})
        except Exception:
            self.handleError(record)


def getLogger(name):
    return logging.getLogger(name if name.split(".")[0] == "fail2ban" else "fail2ban." + name.rpartition(".")[2])


def prepare_log():
    logging.NOTICE = 25
    logging.addLevelName(25, "NOTICE")

    def notice(self, message, *values, **named):
        if self.isEnabledFor(25):
            self._log(25, message, values, **named)

    logging.Logger.notice = notice
    root = logging.getLogger()
    root.addHandler(Forwarder())
    root.setLevel(logging.WARNING)
    logging.getLogger("fail2ban").setLevel(logging.DEBUG)


def prepare_modules():
    """What can be imported, whether that server is installed or not."""

    def module(name, **contents):
        made = types.ModuleType(name, "What an action finds of `%s` here." % name)
        made.__dict__.update(contents)
        sys.modules[name] = made
        parent, _, last = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], last, made)
        return made

    module("fail2ban").__path__ = []
    module("fail2ban.server").__path__ = []
    module("fail2ban.helpers", getLogger=getLogger)
    module("fail2ban.server.action", ActionBase=ActionBase, CallingMap=CallingMap)
    module("fail2ban.server.actions", ActionBase=ActionBase, CallingMap=CallingMap)
    module("fail2ban.server.ipdns", IPAddr=IPAddr)
    module("fail2ban.server.mytime", MyTime=type("MyTime", (), {"time": staticmethod(time.time)}))


# --- the action itself

METHODS = ("start", "stop", "ban", "reban", "unban")


class Case:
    """An action, from its file to the calls of its methods."""

    def __init__(self):
        self.action = None
        self.jail = None

    def load(self, request):
        path = self.path = os.path.abspath(request["path"])
        stem = os.path.splitext(os.path.basename(path))[0]
        spec = importlib.util.spec_from_file_location(stem, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules.setdefault(stem, module)
        spec.loader.exec_module(module)
        kind = getattr(module, "Action", None)
        if kind is None:
            raise RuntimeError("it has no class `Action`")
        missing = [name for name in METHODS if not callable(getattr(kind, name, None))]
        if missing:
            raise RuntimeError("its class `Action` lacks %s" % ", ".join(missing))
        self.action = kind(self.jail, request["name"], **request["options"])

    def call(self, request):
        arguments = []
        if "info" in request:
            arguments.append(self.info(request["info"]))
        return getattr(self.action, request["method"])(*arguments, **request.get("options", {}))

    def info(self, given):
        """What the daemon tells about a ban, as the mapping that actions expect."""
        values = {key: unpacked(value) for key, value in given.items()}
        for key in ("ip", "fid"):
            values[key] = IPAddr(values[key], values["family"])

        def host():
            # only a call is listened to, and calls are of the main thread
            if threading.current_thread() is not threading.main_thread():
                return None
            say({"ask": "host"})
            return hear()["host"]

        values["ip-host"] = host
        return ActionInfo(values)

    def get(self, request):
        return getattr(self.action, request["name"])

    def set(self, request):
        action, name, value = self.action, request["name"], unpacked(request["value"])
        if callable(getattr(action, name, None)):
            arguments = json.loads(value) if value else {}
            if not isinstance(arguments, dict):
                raise TypeError("the arguments of `%s` must be a JSON object" % name)
            return getattr(action, name)(**arguments)
        setattr(action, name, value)
        return getattr(action, name)

    def members(self, are_methods):
        names = [name for name in dir(self.action) if not name.startswith("_")]
        return [name for name in names if callable(getattr(self.action, name, None)) == are_methods]

    def properties(self, request):
        return self.members(False)

    def methods(self, request):
        return self.members(True)

    def traits(self):
        """What the daemon has to know to call it rightly."""
        action = self.action

        def has(name):
            return callable(getattr(action, name, None))

        try:
            limit = float(getattr(action, "_timeout", None))
        except (TypeError, ValueError):
            limit = 0.0
        return {
            "norestored": bool(getattr(action, "norestored", False)),
            "flush": has("flush"),
            "check": has("consistencyCheck"),
            "reload": has("reload"),
            "prolong": bool(getattr(action, "_prolongable", False)) and has("prolong"),
            "timeout": limit if 0 < limit < math.inf else None,
        }

    def failed(self, error):
        """An exception as the daemon is told of it: its kind, what it says, where it came about."""
        place = ""
        for frame in traceback.extract_tb(error.__traceback__):
            if frame.filename == self.path:
                place = "%s:%s" % (self.path, frame.lineno)
        if isinstance(error, SyntaxError) and error.filename == self.path:
            place = "%s:%s" % (self.path, error.lineno)
        said = text(error.msg if isinstance(error, SyntaxError) else error) or type(error).__name__
        trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        kinds = [kind.__name__ for kind in type(error).__mro__]
        return {"kinds": kinds, "text": said[:MAX_TEXT], "place": place, "trace": text(trace)[-MAX_TEXT:]}

    def serve(self, request):
        if self.jail is None:
            self.jail = Jail(request["jail"])
        self.jail.actions._bantime = request["bantime"]
        try:
            value = getattr(self, request["do"])(request)
            # the outcome of an event is of no interest beyond its truth
            value = packed(value) if request["do"] in ("get", "set", "properties", "methods") else bool(value)
            reply = {"done": value, "traits": self.traits()}
        except BaseException as error:
            reply = {"failed": self.failed(error)}
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        say(reply)


prepare_log()
prepare_modules()
case = Case()
while True:
    case.serve(hear())
