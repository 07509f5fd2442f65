#!/usr/bin/python3
"""Shows and ends jobs of storaged, over its socket for libvirt's clients and without libvirt.

    jobs.py SOCKET list [live|ended]
    jobs.py SOCKET info|stats|abort JOB
    jobs.py SOCKET watch [JOB]

JOB is a number, a uuid, POOL/VOLUME or POOL. docs/libvirt.md has the protocol.
"""
import socket, struct, sys, uuid

REMOTE, JOBS = 0x20008086, 0x206A6F62  # programs
AUTH_LIST, AUTH_POLKIT, OPEN, SUPPORTS_FEATURE = 66, 70, 1, 60  # procedures of REMOTE
POLKIT = 2  # a way to prove who one is
LIST, GET_INFO, GET_STATS, ABORT, EVENT_REGISTER = 1, 2, 3, 5, 9  # procedures of JOBS
CALL, MESSAGE = 0, 2  # types of packets
TYPES = ["none", "bounded", "unbounded", "completed", "failed", "cancelled"]
EVENTS = ["state", "phase", "progress", "ended", "call", "lost"]  # bit 0 and so on
FORMS = {1: "i", 2: "I", 3: "q", 4: "Q", 5: "d", 6: "?"}  # of parameters; 7 is text


def text(s):
    b = s.encode()
    return struct.pack(">I", len(b)) + b + bytes(-len(b) % 4)


def reference(job):
    if job.isdigit():
        return struct.pack(">iQ", 1, int(job))
    try:
        return struct.pack(">i", 2) + uuid.UUID(job).bytes
    except ValueError:
        pool, _, volume = job.partition("/")
        return struct.pack(">i", 3 if volume else 4) + text(pool) + (text(volume) if volume else b"")


class Values:
    """What a packet carries, read one value after the other."""

    def __init__(self, b):
        self.b = b

    def take(self, form):
        size = struct.calcsize(">" + form)
        values, self.b = struct.unpack(">" + form, self.b[:size]), self.b[size:]
        return values if len(values) > 1 else values[0]

    def text(self):
        n = self.take("I")
        s, self.b = self.b[:n], self.b[n + -n % 4 :]
        return s.decode(errors="replace")

    def optional(self):
        return self.text() if self.take("I") else None

    def job(self):
        kind, elapsed, rest, total, done = self.take("i4Q")
        number = self.take("8Q")[-1]  # behind the remaining figures
        id = uuid.UUID(bytes=self.take("16s"))
        operation, state, pool, volume, phase, owner = (self.text() for _ in range(6))
        if not number:
            return "no job"
        how = f"{phase if phase and kind < 3 else TYPES[kind]}, {done} of {total} bytes after {elapsed / 1000:.1f} s"
        if kind < 3:
            how += f", {rest / 1000:.1f} s left" if rest else ", end not known"
        return f"{number} {id} {operation} {pool}{volume and '/' + volume} of {owner}: {state} ({how})"

    def param(self):
        name, kind = self.text(), self.take("i")
        if kind == 7:
            return name, self.text()
        return name, self.take("3x?" if kind == 6 else FORMS[kind])


class Connection:
    def __init__(self, path):
        self.socket, self.serial, self.messages = socket.socket(socket.AF_UNIX), 0, []
        self.socket.connect(path)
        self.stream = self.socket.makefile("rb")
        if self.call(REMOTE, AUTH_LIST).take("2I")[1] == POLKIT:
            self.call(REMOTE, AUTH_POLKIT)
        self.call(REMOTE, OPEN, struct.pack(">II", 0, 0))  # no URI: the only driver there is
        if self.call(REMOTE, SUPPORTS_FEATURE, struct.pack(">I", JOBS)).take("i") < 1:
            sys.exit("the daemon knows nothing of jobs")

    def call(self, program, procedure, args=b""):
        self.serial += 1
        header = struct.pack(">7I", 28 + len(args), program, 1, procedure, CALL, self.serial, 0)
        self.socket.sendall(header + args)
        while True:
            kind, status, values = self.receive()
            if kind == MESSAGE:
                self.messages.append(values)
            elif status:
                values.take("2i")
                sys.exit(f"error: {values.optional()}")
            else:
                return values

    def receive(self):
        header = self.stream.read(28)
        if len(header) < 28:
            sys.exit("the daemon has ended")
        length, _, _, _, kind, _, status = struct.unpack(">7I", header)
        return kind, status, Values(self.stream.read(length - 28))

    def list(self, which=None):
        after = b"\0\0\0\0"
        while after:
            args = struct.pack(">I16xI", {"live": 1, "ended": 2, None: 0}[which], 0)  # no other filters
            values = self.call(JOBS, LIST, args + after)
            for _ in range(values.take("I")):
                print(values.job())
            more = values.optional()
            after = more and b"\0\0\0\1" + text(more)

    def info(self, job):
        print(self.call(JOBS, GET_INFO, reference(job) + bytes(4)).job())

    def stats(self, job):
        values = self.call(JOBS, GET_STATS, reference(job) + bytes(4))
        print("type:", TYPES[values.take("i")])
        for _ in range(values.take("I")):
            print("{}: {}".format(*values.param()))

    def abort(self, job):
        print(self.call(JOBS, ABORT, reference(job) + bytes(4)).job())

    def watch(self, job=None):
        of = b"\0\0\0\1" + reference(job) if job else bytes(4)
        self.call(JOBS, EVENT_REGISTER, struct.pack(">I", 31) + of)
        while True:
            values = self.messages.pop(0) if self.messages else self.receive()[-1]
            _, events, _ = values.take("3I")
            names = [name for i, name in enumerate(EVENTS) if events >> i & 1]
            print(",".join(names), values.job(), values.optional() or "", flush=True)
            if job and "ended" in names:
                return


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[2] not in ("list", "info", "stats", "abort", "watch"):
        sys.exit(__doc__)
    getattr(Connection(sys.argv[1]), sys.argv[2])(*sys.argv[3:])
