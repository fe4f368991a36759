"""Splits addresses of servers into parts, and masks their secrets.

A typed address may be invalid: with an unescaped `@`, slash, question mark or blank in its password. Drivers parse from
the left, and take a part of such a password for a host, which their messages then name. This module parses from the
right: hosts follow the last `@`, and all before it is user and password.
"""

import re
from dataclasses import dataclass

MASK = "***"

# Options that are secrets themselves, and others whose values may have an `@`.
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
_OURS = ("mongo", "amqp")  # beginnings of the schemes whose addresses are parsed from the right in texts too
_HOST = r"(?:\[[0-9a-f:.]+\]|[\w.%\-]+)(?::\d{1,5})?"
_HOSTS = re.compile(rf"{_HOST}(?:,{_HOST})*(?:/[^@]*)?(?:\?[^@]*)?", re.IGNORECASE)
_COMPLETE = re.compile(rf"{_HOST}(?:,{_HOST})*[/?#]", re.IGNORECASE)
_ONLY_HOSTS = re.compile(rf"{_HOST}(?:,{_HOST})*[.,:;)\]]*", re.IGNORECASE)
_BLANK_IN_USER = re.compile(r"[^@]*[^@\s]:[^@\s]*@")
_BETWEEN = " \t,;='\"`<([{"
_CLOSING = {"'": "'", '"': '"', "`": "`", "<": ">"}
_PLACEHOLDER = re.compile(r"<\w+>:<\w+>")  # in sentences that say how an address is written
# Almost an address: a slash is missing, or the scheme.
_NEARLY = re.compile(
    r"((?:\b(?:mongodb(?:\+srv)?|amqps?):/?(?!/)|(?<![\w:./\-])//(?=[^\s@]{0,300}:)(?![^\s@]{0,300}:\*{3}@)))\S{0,300}@",
    re.IGNORECASE,
)
# After a host: a port, perhaps with the punctuation of a sentence, or the word for it.
_PORT = re.compile(r"(?:\d{1,5}|port|)\W*", re.IGNORECASE)
_VERSION_6 = re.compile(r"\[.*|[0-9a-f.]*:[0-9a-f:.]*:[0-9a-f:.]*", re.IGNORECASE)
_BAD_PERCENT = re.compile(r"%(?![0-9a-f]{2})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Address:
    """Parts of an address. `scheme`: with `://`, or empty. `userinfo`: None where there is none. `path_and_options`: as they are."""

    scheme: str
    userinfo: str | None
    hosts: str
    path_and_options: str

    @property
    def path(self) -> str:
        """The part between hosts and options, without its slash."""
        return self.path_and_options.partition("?")[0].removeprefix("/")

    @property
    def before_options(self) -> str:
        userinfo = "" if self.userinfo is None else f"{self.userinfo}@"
        return f"{self.scheme}{userinfo}{self.hosts}{self.path_and_options.partition('?')[0]}"

    @property
    def options(self) -> str:
        return self.path_and_options.partition("?")[2]

    @property
    def unescaped(self) -> set[str]:
        """The unescaped characters in user or password that have a meaning in addresses."""
        user, _, password = (self.userinfo or "").partition(":")
        characters = {character for character in "@:/?#" if character in user + password}
        return characters | {"%"} if _BAD_PERCENT.search(user + password) else characters

    @property
    def shown(self) -> str:
        """The address without secrets."""
        userinfo = "" if self.userinfo is None else f"{self._user}@"
        path_and_options, hosts = _SECRET_OPTION.sub(rf"\1{MASK}", self.path_and_options), self.hosts
        if self.scheme.lower().startswith(_OURS):  # an option may really be a part of a password
            path_and_options = _MARKED_OPTION.sub(rf"\1{MASK}", path_and_options)
            hosts = self.hosts_shown
        return self.scheme + userinfo + hosts + path_and_options

    @property
    def hosts_shown(self) -> str:
        """The hosts without secrets. Without an `@` they may be user and password: what follows a colon and is no port is masked."""
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
        return MASK if "%3a" in user.lower() else user  # an encoded colon


def _host_shown(host: str) -> str:
    name, colon, port = host.partition(":")
    if _VERSION_6.fullmatch(host) or _PORT.fullmatch(port):
        return host
    return f"{name}{colon}{MASK}"


def parsed(text: str) -> Address:
    """Splits an address, valid or not, into its parts."""
    match = _BEGINNING.match(text)
    scheme = match[0] if match else ""
    body = text[len(scheme) :]
    return _split(scheme, body, _end_of_userinfo(body))


def masked_address(text: str) -> str:
    """Returns an address, valid or not, without its secrets; only a mask for a text that could itself be a password."""
    address = parsed(text)
    return address.shown if address.scheme or address.userinfo is not None else MASK


def masked(text: str) -> str:
    """Returns any text without the secrets of the addresses in it."""
    if "://" not in text:
        return _masked_outside_addresses(text)
    end_of_last, parts = 0, []
    for scheme_match in _SCHEME.finditer(text):
        if scheme_match.start() < end_of_last:
            continue  # within the password of the previous address
        line = text[scheme_match.end() :].partition("\n")[0]
        body = line[: _length(line, text[scheme_match.start() - 1 : scheme_match.start()])]
        parts += [text[end_of_last : scheme_match.start()], _address_in_text(scheme_match[0], body).shown]
        end_of_last = scheme_match.end() + len(body)
    return _masked_outside_addresses("".join(parts) + text[end_of_last:])


def _masked_outside_addresses(text: str) -> str:
    """Masks what looks like a secret outside of addresses."""
    if "@" in text:
        text = _NEARLY.sub(rf"\1{MASK}@", text)
    return _LOOSE_OPTION.sub(rf"\1{MASK}", text) if "=" in text else text


def _address_in_text(scheme: str, body: str) -> Address:
    """Splits an address in a text. For other servers than ours, complete hosts at the beginning are trusted: a later `@` does not belong to them."""
    trusted = not scheme.lower().startswith(_OURS) and _COMPLETE.match(body)
    return _split(scheme, body, -1 if trusted else _end_of_userinfo(body))


def _split(scheme: str, body: str, position: int) -> Address:
    after_userinfo = body[position + 1 :]
    cut = re.search(r"[/?#]", after_userinfo)
    end = cut.start() if cut else len(after_userinfo)
    return Address(
        scheme, body[:position] if position >= 0 else None, after_userinfo[:end], after_userinfo[end:]
    )


def _end_of_userinfo(body: str) -> int:
    """Returns the position of the last `@` outside of options; -1 where there is none."""
    tail = _TAIL.search(body)
    head = body[: tail.start()] if tail else body
    position = head.rfind("@")
    return body.rfind("@") if position < 0 and not _HOSTS.fullmatch(head) else position


def _length(line: str, before: str) -> int:
    """Returns the length of the address at the beginning of a line, after its scheme; too much rather than too little."""
    line = line[: _next_address(line)]
    closing = _CLOSING.get(before)
    if closing and closing in line:
        quoted = line.index(closing)
        return quoted if "@" in line[:quoted] or "@" not in line else line.rindex(closing)
    token, following = _word(line), line[len(_word(line)) :]
    complete = _COMPLETE.match(token) or (
        _ONLY_HOSTS.fullmatch(token) and not _BLANK_IN_USER.match(following)
    )
    if "@" in token or "@" not in following or complete:
        return len(token)
    position = line.rindex("@")
    return position + len(_word(line[position:]))


def _next_address(line: str) -> int:
    """Returns where the next address of a line begins. One without a separator before it is part of a password."""
    for other in _SCHEME.finditer(line):
        if "@" in line[: other.start()] or not line[: other.start()] or line[other.start() - 1] in _BETWEEN:
            return other.start()
    return len(line)


def _word(text: str) -> str:
    match = re.match(r"\S*", text)
    return match[0] if match else ""
