#!/usr/bin/env python3
"""Runs every command of the book, and holds its links, its list of pages and its reference of commands to the program.

    docs/check.py BIN_DIR WORK_DIR [PAGE ...]      # BIN_DIR has walengine and walengine-projector
    docs/check.py BIN_DIR --write-reference        # writes src/reference/commands.md by the program's own help

In a page, a block ```console is a session of bash: a line that begins with "$ " is a command, and what follows is its
output. A line `...` stands for any lines, and `...` in a line for any text; runs of blanks count as one, empty lines as none. A command without
output is compared by its exit code alone. `[exit code N]` after it says that it ends with N; otherwise it must be 0. What a
command that ends in `&` says is waited for. A block ```sql is run by psql, a block ```python by Python. All blocks of a page run
in order, in one shell, in a directory and a network namespace of the page's own, which takes root. A block after a line
`<!-- not run: REASON -->` is not run; those are listed, and there may be only so many.
"""

import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

BOOK = pathlib.Path(__file__).resolve().parent / "src"
COMMANDS = BOOK / "reference" / "commands.md"
# Blocks that need another machine, root on a real host, or minutes.
NOT_RUN_MAX = 8
# Pages that run at once: most of their time is waiting.
PAGES_AT_ONCE = 4
# How long one command may take, and how long what a background command says is waited for, in seconds.
PATIENCE_SECONDS = 60
# Languages of blocks that are run, and of those that only show something.
RUN = {"console", "sql", "python"}
SHOWN = {"text", "rust", "toml", "json", "yaml", "promql"}


class Wrong(Exception):
    """What is wrong, with its page and line."""


def blocks(page):
    """Of a page's blocks: line number, language, text, and why it is not run."""
    found, why, lines = [], None, page.read_text().splitlines()
    at = 0
    while at < len(lines):
        line = lines[at]
        if comment := re.fullmatch(r"<!-- not run: (.+) -->", line):
            why = comment[1]
        elif opening := re.fullmatch(r"```(\S*)", line):
            begin = at + 1
            while (at := at + 1) < len(lines) and lines[at] != "```":
                pass
            language = opening[1].split(",")[0]
            if language not in RUN | SHOWN:
                raise Wrong(f"{page}:{begin}: a block is one of {sorted(RUN | SHOWN)}, and not {language!r}")
            found.append((begin, language, lines[begin:at], why))
            why = None
        elif line.strip():
            why = None
        at += 1
    return found


def commands(lines):
    """Of a console block: each command with its place, the lines that it should print, and its exit code."""
    found = []
    for place, line in enumerate(lines, 1):
        if line.startswith("$ "):
            found.append([place, [line[2:]], [], 0])
        elif not found:
            raise Wrong(f"line {place} of the block comes before any command")
        elif not found[-1][2] and (line.startswith("> ") or found[-1][1][-1].endswith("\\")):
            found[-1][1].append(line.removeprefix("> "))
        elif code := re.fullmatch(r"\[exit code (\d+)\]", line):
            found[-1][3] = int(code[1])
        else:
            found[-1][2].append(line)
    return found


def matches(expected, said):
    """Whether what was said is what the page shows."""
    pattern = ""
    for line in filter(str.strip, expected):
        if line.strip() == "...":
            pattern += r"(?:[^\n]*\n)*?"
        else:
            parts = " ".join(line.split()).split("...")
            pattern += "[^\n]*?".join(re.escape(part) for part in parts) + "\n"
    text = "".join(" ".join(line.split()) + "\n" for line in said.splitlines() if line.strip())
    return re.fullmatch(pattern, text) is not None


class Shell:
    """One bash in a directory and namespaces of its own; whatever it has started ends with it."""

    def __init__(self, directory, binaries):
        # The directory is on a real file system, which direct I/O needs, and is seen where PostgreSQL's user may enter.
        self.place = pathlib.Path(tempfile.mkdtemp(prefix="book-"))
        self.place.chmod(0o755)
        environment = {name: value for name, value in os.environ.items()
                       if not name.startswith(("WALENGINE_", "PG")) and not name.endswith("_proxy")}
        environment.update(
            PATH=f"{binaries}:{environment['PATH']}", HOME=str(self.place), LC_ALL="C.UTF-8", TZ="UTC", NO_COLOR="1",
            COLUMNS="120", PAGER="cat",
            # Small and quick: the same on machines of every size.
            WALENGINE_CORES="1", WALENGINE_PARTITIONS="2", WALENGINE_SEGMENT_MIB="8", WALENGINE_RESERVE_MIB="16")
        enter = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
                 "sh", "-c",
                 f"ip link set lo up && mount --bind . {self.place} && cd {self.place} && exec bash --norc --noprofile"]
        self.process = subprocess.Popen(enter, cwd=directory, env=environment, text=True, errors="replace",
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.directory = directory
        self.background = 0
        self.file = directory / ".command"

    def run(self, command):
        """What it says, and its exit code; of one in the background a function that gives what it has said so far."""
        log = None
        if re.search(r"[^&]&$", command):
            self.background += 1
            log = self.directory / f".background-{self.background}"
            log.touch()
            command = f"{command[:-1]} >{self.place}/{log.name} 2>&1 &"
        self.file.write_text(command + "\n")
        print(f". {self.place}/.command </dev/null; printf '\\n\\1%s\\n' $?", file=self.process.stdin, flush=True)
        said = []
        alarm = threading.Timer(PATIENCE_SECONDS, self.process.kill)
        alarm.start()
        for line in self.process.stdout:
            if line.startswith("\1"):
                alarm.cancel()
                text = "".join(said).removesuffix("\n")
                return (log.read_text if log else lambda: text), int(line[1:])
            said.append(line)
        alarm.cancel()
        return (lambda: "".join(said) + "\n(no end: the shell has ended, or it took too long)"), None

    def end(self):
        self.process.kill()
        self.process.wait()
        self.place.rmdir()


def run_page(page, binaries, work):
    """Runs all blocks of a page. Returns how many commands, and which blocks are not run."""
    name = str(page.relative_to(BOOK))
    found = blocks(page)
    left = [f"{name}:{line}: {why}" for line, language, _, why in found if why and language in RUN]
    found = [block for block in found if block[1] in RUN and not block[3]]
    if not found:
        return 0, left
    directory = work / name.removesuffix(".md").replace("/", "-")
    directory.mkdir()
    directory.chmod(0o755)
    shell, count = Shell(directory, binaries), 0
    try:
        for begin, language, lines, _ in found:
            if language == "console":
                steps = commands(lines)
            else:
                file = directory / f"block-{begin}.{language}"
                file.write_text("\n".join(lines) + "\n")
                runner = "psql -X -q -v ON_ERROR_STOP=1 -f" if language == "sql" else os.environ.get("BOOK_PYTHON", "python3")
                steps = [[1, [f"{runner} {file.name}"], [], 0]]
            for place, command, expected, code in steps:
                read, ended = shell.run("\n".join(command))
                by = time.monotonic() + PATIENCE_SECONDS / 2
                while command[-1].endswith("&") and not matches(expected, read()) and time.monotonic() < by:
                    time.sleep(0.02)
                said = read()
                if ended != code or (expected and not matches(expected, said)):
                    shown = "\n".join(expected)
                    raise Wrong(f"{name}:{begin + place}: {' '.join(command)}\nexit code {ended}, the page says {code}\n"
                                f"--- the page says\n{shown}\n--- it said\n{said}")
                count += 1
    finally:
        shell.end()
    return count, left


def anchor(heading):
    """As mdBook makes it of a heading."""
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
    return "".join("-" if letter.isspace() else letter for letter in text if letter.isalnum() or letter in "_- ")


def check_links(pages):
    """Every page is in SUMMARY.md, and every link, picture and inclusion of the book leads somewhere."""
    wrong = []
    listed = {(BOOK / link).resolve() for link in re.findall(r"\]\(([^)]+)\)", (BOOK / "SUMMARY.md").read_text())}
    wrong += [f"{page} is not in SUMMARY.md" for page in pages if page not in listed]
    wrong += [f"SUMMARY.md names {page}, which is not there" for page in listed if not page.exists()]
    anchors = {}
    for page in pages:
        text = page.read_text()
        for file in re.findall(r"\{\{#include ([^}]+)\}\}", text):
            if not (page.parent / file.split(":")[0]).exists():
                wrong.append(f"{page}: includes {file}, which is not there")
        plain = re.sub(r"^```.*?^```$", "", text, flags=re.S | re.M)
        anchors[page] = ({anchor(heading) for heading in re.findall(r"^#+ (.+)$", plain, flags=re.M)}, plain)
    for page in pages:
        for link in re.findall(r"\]\(([^)]+)\)", anchors[page][1]):
            file, _, part = link.partition("#")
            if link.startswith(("http://", "https://")):
                continue
            target = (page.parent / file).resolve() if file else page
            if not target.exists() or not target.is_relative_to(BOOK):
                wrong.append(f"{page}: {link} leads nowhere in the book")
            elif part and (target not in anchors or part not in anchors[target][0]):
                wrong.append(f"{page}: {link}: no such heading")
    return wrong


def help_of(binaries, words):
    """The text of `--help` at a fixed width."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("WALENGINE_", "PG"))}
    environment.update(COLUMNS="100", NO_COLOR="1")
    said = subprocess.run([f"{binaries}/{words[0]}", *words[1:], "--help"], capture_output=True, text=True, check=True,
                          env=environment)
    return "\n".join(line.rstrip() for line in said.stdout.strip().splitlines())


def reference(binaries):
    """The page of all commands, by the programs' own help."""
    page = ["# Commands", "", "Made of the programs' own help by `docs/check.py BIN_DIR --write-reference`; do not edit.", ""]
    waiting = [["walengine"], ["walengine-projector"]]
    while waiting:
        words = waiting.pop(0)
        text = help_of(binaries, words)
        page += [f"{'#' * min(len(words) + 1, 4)} {' '.join(words)}", "", "```text", text, "```", ""]
        listed = re.search(r"^Commands:\n((?:  .*\n|\n(?=  ))*)", text + "\n", flags=re.M)
        names = re.findall(r"^  (\S+)", listed[1], flags=re.M) if listed else []
        waiting[:0] = [[*words, name] for name in names if name != "help"]
    return "\n".join(page)


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    binaries = pathlib.Path(sys.argv[1]).resolve()
    if sys.argv[2] == "--write-reference":
        COMMANDS.parent.mkdir(exist_ok=True)
        COMMANDS.write_text(reference(binaries))
        return
    work = pathlib.Path(sys.argv[2]).resolve()
    pages = sorted(page for page in BOOK.rglob("*.md") if page.name != "SUMMARY.md")
    wrong = check_links(pages)
    if not COMMANDS.exists() or COMMANDS.read_text() != reference(binaries):
        wrong.append(f"{COMMANDS} is not what the programs' help says: run docs/check.py BIN_DIR --write-reference")
    chosen = [(BOOK / name).resolve() for name in sys.argv[3:]] or pages
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    left, count, began = [], 0, time.monotonic()

    def one(page):
        start = time.monotonic()
        try:
            done, not_run = run_page(page, binaries, work)
        except Wrong as error:
            return 0, [], [str(error)]
        if done:
            print(f"{page.relative_to(BOOK)}: {done} commands, {time.monotonic() - start:.1f} s")
        return done, not_run, []

    with concurrent.futures.ThreadPoolExecutor(PAGES_AT_ONCE) as pool:
        for done, not_run, bad in pool.map(one, chosen):
            count, left, wrong = count + done, left + not_run, wrong + bad
    print(f"{count} commands of {len(chosen)} pages in {time.monotonic() - began:.1f} s; {len(left)} blocks are not run:")
    print("".join(f"  {block}\n" for block in left), end="")
    if len(left) > NOT_RUN_MAX:
        wrong.append(f"{len(left)} blocks are not run; at most {NOT_RUN_MAX} may be")
    if wrong:
        sys.exit("\n\n".join(wrong))


main()
