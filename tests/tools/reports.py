# SPDX-License-Identifier: MIT
"""How a supervisor hears that a generation is ready."""
from common import SERVER, test, until
from supervise import Supervised

# It connects as the library does to report, and speaks a second later. It never waits for work, by which the library
# would know that it is ready.
SLOW_REPORTER = SERVER.replace('open("ready"', '''
report = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
report.connect(b"\\0cpr." + os.environ["CPR_SUPERVISOR"].split(":")[1].encode())
open("connected", "w").close()
time.sleep(1)
report.send(b"result=ready\\\\ngeneration=1\\\\n")
open("reported", "w").close()
while True:
    time.sleep(0.01)
open("ready"''', 1)


class Starting(Supervised):
    def __enter__(self):
        until("the connection", lambda: self.has("connected"))
        return self


@test
def a_report_may_come_long_after_its_process_has_connected():
    with Starting(code=SLOW_REPORTER) as server:
        assert server.status()["arriving"]
        until("the report", lambda: server.has("reported"))
        until("the supervisor to take it", lambda: not server.status()["arriving"])
