"""Addresses of servers: what their parts are, and what of them may be shown.

An address that somebody has typed may be no valid one: an `@`, a slash, a question mark or a blank stand in a password as they
are. Drivers read from the left, and take a piece of such a password for a host, which their messages then name. Here an
address is read from the right: its hosts are what follows the last `@`, all before that is user and password.
"""

import re
from dataclasses import dataclass

MASK = "***"

# Options that are secrets themselves, and others in whose values an `@` may stand.
_SECRETS = r"[\w.]*(?:password|passphrase|secret|token)[\w.]*|authmechanismproperties"
_OTHERS = r"appname|authsource|proxyusername|tlscafile|tlscertificatekeyfile|tlscrlfile|cafile|capath|certfile|keyfile|name"
_TAIL = re.compile(rf"[?&;](?:{_SECRETS}|{_OTHERS})=", re.IGNORECASE)
_SECRET_OPTION = re.compile(rf"([?&;](?:{_SECRETS})=)(?:(?![&;]\w+=).)*", re.IGNORECASE | re.DOTALL)
_MARKED_OPTION = re.compile(r"([?&;][\w.]+=)[^&;]*@[^&;]*")
_LOOSE_OPTION = re.compile(
    r"((?:password|passphrase|authmechanismproperties)=)(?!\*\*\*)[^&\s]*", re.IGNORECASE
)

_BEGINNING = re.compile(r"[a-z][\w+.\-]*://", re.IGNORECASE | re.ASCII)
_SCHEME = re.compile(r"(?<![\w+.\-])[a-z][\w+.\-]*://", re.IGNORECASE | re.ASCII)
_OURS = ("mongo", "amqp")  # beginnings of the schemes whose addresses are read from the right in texts too
_HOST = r"(?:\[[0-9a-f:.]+\]|[\w.%\-]+)(?::\d{1,5})?"
_HOSTS = re.compile(rf"{_HOST}(?:,{_HOST})*(?:/[^@]*)?(?:\?[^@]*)?", re.IGNORECASE)
_COMPLETE = re.compile(rf"{_HOST}(?:,{_HOST})*[/?#]", re.IGNORECASE)
_ONLY_HOSTS = re.compile(rf"{_HOST}(?:,{_HOST})*[.,:;)\]]*", re.IGNORECASE)
_BLANK_IN_USER = re.compile(r"[^@]*[^@\s]:[^@\s]*@")
_BETWEEN = " \t,;='\"`<([{"
_CLOSING = {"'": "'", '"': '"', "`": "`", "<": ">"}
_PLACEHOLDER = re.compile(r"<\w+>:<\w+>")  # in sentences that say how an address is written
# What was meant for an address: a slash is missing, or the scheme.
_NEARLY = re.compile(
    r"((?:\b(?:mongodb(?:\+srv)?|amqps?):/?(?!/)|(?<![\w:./\-])//(?=[^\s@]{0,300}:)(?![^\s@]{0,300}:\*{3}@)))\S{0,300}@",
    re.IGNORECASE,
)
# Behind a host: a port, with what stands at the end of a sentence, or the word for it.
_PORT = re.compile(r"(?:\d{1,5}|port|)\W*", re.IGNORECASE)
_VERSION_6 = re.compile(r"\[.*|[0-9a-f.]*:[0-9a-f:.]*:[0-9a-f:.]*", re.IGNORECASE)
_BAD_PERCENT = re.compile(r"%(?![0-9a-f]{2})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Address:
    """`scheme`: with `://`, empty where there is none. `userinfo`: None where there is none. `rest`: path and options, as they are."""

    scheme: str
    userinfo: str | None
    hosts: str
    rest: str

    @property
    def path(self) -> str:
        """What stands between hosts and options, without its slash."""
        return self.rest.partition("?")[0].removeprefix("/")

    @property
    def before_options(self) -> str:
        at = "" if self.userinfo is None else f"{self.userinfo}@"
        return f"{self.scheme}{at}{self.hosts}{self.rest.partition('?')[0]}"

    @property
    def options(self) -> str:
        return self.rest.partition("?")[2]

    @property
    def unescaped(self) -> set[str]:
        """Which of the characters that have a meaning in addresses stand in user or password as they are."""
        user, _, password = (self.userinfo or "").partition(":")
        found = {each for each in "@:/?#" if each in user + password}
        return found | {"%"} if _BAD_PERCENT.search(user + password) else found

    @property
    def shown(self) -> str:
        """Without secrets."""
        at = "" if self.userinfo is None else f"{self._user}@"
        rest, hosts = _SECRET_OPTION.sub(rf"\1{MASK}", self.rest), self.hosts
        if self.scheme.lower().startswith(_OURS):  # a password may have been taken for the option
            rest = _MARKED_OPTION.sub(rf"\1{MASK}", rest)
            hosts = self.hosts_shown
        return self.scheme + at + hosts + rest

    @property
    def hosts_shown(self) -> str:
        """The hosts. Without any `@` there may be none: then what is no port behind the first of them is a password."""
        if self.userinfo is not None:
            return self.hosts
        return ",".join(map(_host_shown, self.hosts.split(",")))

    @property
    def _user(self) -> str:
        user, colon, _ = (self.userinfo or "").partition(":")
        if _PLACEHOLDER.fullmatch(self.userinfo or ""):
            return f"{self.userinfo}"
        if self.scheme.lower().startswith("amqp"):
            return MASK
        if colon:
            return f"{user}:{MASK}"
        return MASK if "%3a" in user.lower() else user  # a colon that was encoded too


def _host_shown(host: str) -> str:
    name, colon, port = host.partition(":")
    if _VERSION_6.fullmatch(host) or _PORT.fullmatch(port):
        return host
    return f"{name}{colon}{MASK}"


def parsed(text: str) -> Address:
    """A text that is an address, right or wrong, in its parts."""
    found = _BEGINNING.match(text)
    scheme = found[0] if found else ""
    body = text[len(scheme) :]
    return _parted(scheme, body, _end_of_userinfo(body))


def masked_address(text: str) -> str:
    """A text that is an address, right or wrong, without its secrets; of one that could be a password itself, nothing."""
    found = parsed(text)
    return found.shown if found.scheme or found.userinfo is not None else MASK


def masked(text: str) -> str:
    """Any text without the secrets of the addresses in it."""
    if "://" not in text:
        return _loosely(text)
    done, shown = 0, []
    for found in _SCHEME.finditer(text):
        if found.start() < done:
            continue  # within the password of the one before
        line = text[found.end() :].partition("\n")[0]
        body = line[: _length(line, text[found.start() - 1 : found.start()])]
        shown += [text[done : found.start()], _found(found[0], body).shown]
        done = found.end() + len(body)
    return _loosely("".join(shown) + text[done:])


def _loosely(text: str) -> str:
    """Without what looks like a secret where no address is."""
    if "@" in text:
        text = _NEARLY.sub(rf"\1{MASK}@", text)
    return _LOOSE_OPTION.sub(rf"\1{MASK}", text) if "=" in text else text


def _found(scheme: str, body: str) -> Address:
    """An address in a text. Of other servers than ours, what begins with whole hosts is right: an `@` behind them is none of its end."""
    right = not scheme.lower().startswith(_OURS) and _COMPLETE.match(body)
    return _parted(scheme, body, -1 if right else _end_of_userinfo(body))


def _parted(scheme: str, body: str, at: int) -> Address:
    place = body[at + 1 :]
    cut = re.search(r"[/?#]", place)
    end = cut.start() if cut else len(place)
    return Address(scheme, body[:at] if at >= 0 else None, place[:end], place[end:])


def _end_of_userinfo(body: str) -> int:
    """Where the last `@` is that stands in no option; -1 where there is none."""
    tail = _TAIL.search(body)
    head = body[: tail.start()] if tail else body
    at = head.rfind("@")
    return body.rfind("@") if at < 0 and not _HOSTS.fullmatch(head) else at


def _length(line: str, before: str) -> int:
    """How much of a line, from behind a scheme, is the address; where that cannot be known, rather too much."""
    line = line[: _next(line)]
    closing = _CLOSING.get(before)
    if closing and closing in line:
        quoted = line.index(closing)
        return quoted if "@" in line[:quoted] or "@" not in line else line.rindex(closing)
    token, rest = _word(line), line[len(_word(line)) :]
    whole = _COMPLETE.match(token) or (_ONLY_HOSTS.fullmatch(token) and not _BLANK_IN_USER.match(rest))
    if "@" in token or "@" not in rest or whole:
        return len(token)
    at = line.rindex("@")
    return at + len(_word(line[at:]))


def _next(line: str) -> int:
    """Where the next address of a line begins. One that is glued to something is part of a password."""
    for other in _SCHEME.finditer(line):
        if "@" in line[: other.start()] or not line[: other.start()] or line[other.start() - 1] in _BETWEEN:
            return other.start()
    return len(line)


def _word(text: str) -> str:
    found = re.match(r"\S*", text)
    return found[0] if found else ""
