"""A stand-in for Claude Code: a program that speaks its protocol with the SDK, lines of JSON.

The prompt says what it does, a JSON list of steps:

- `{"says": TEXT, "usage": {...}, "id": ID}`: one message of the assistant.
- `{"tool": NAME, "input": {...}}`: runs a tool, hooks and all; `"fails"`: it fails; `"denied"`:
  permissions deny it after the hooks; `"with": [...]`: more tools at the same time.
- `{"result": {...}}`: fields of the result, in place of the default ones.
- `{"reset": true}`: the conversation is cleared; `{"wait": true}`: until the SDK hangs up;
  `{"exit": CODE}`.

What it saw goes to the file that the environment names: its arguments, and the tools it ran.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

LOG = "BUDGETWARE_FAKE_CLI_LOG"


class FakeCli:
    def __init__(self) -> None:
        self.log: dict[str, Any] = {"arguments": sys.argv[1:], "ran": [], "answers": []}
        self.log["process"] = os.getpid()
        self.hooks: dict[str, list[str]] = {}
        self.sent = 0

    def run(self) -> None:
        self.write_log()
        while (message := self.read()) is not None:
            if message["type"] == "control_request":
                self.initialize(message)
            elif message["type"] == "user":
                steps = json.loads(message["message"]["content"])
                if not self.play(steps):
                    self.result({})

    def read(self) -> Any:
        line = sys.stdin.readline()
        return json.loads(line) if line else None

    def send(self, kind: str, **fields: Any) -> None:
        self.sent += 1
        about = {"type": kind, "uuid": f"u{self.sent}", "session_id": "s"}
        sys.stdout.write(json.dumps(about | fields) + "\n")
        sys.stdout.flush()

    def write_log(self) -> None:
        path = os.environ.get(LOG)
        if path:
            Path(path).write_text(json.dumps(self.log), encoding="utf-8")

    def initialize(self, message: Any) -> None:
        request = message["request"]
        for event, matchers in (request.get("hooks") or {}).items():
            self.hooks[event] = [i for matcher in matchers for i in matcher["hookCallbackIds"]]
        self.log["hooks"] = request.get("hooks")
        self.write_log()
        response = {"hook_on_failure_supported": True, "hooks_applied": True, "commands": []}
        answer = {"subtype": "success", "request_id": message["request_id"], "response": response}
        self.send("control_response", response=answer)
        self.send("system", subtype="init", claude_code_version="9.9.9")

    def play(self, steps: list[Any]) -> bool:
        """Do the steps; whether a result was sent."""
        for step in steps:
            if "says" in step:
                self.say(step)
            elif "tool" in step:
                if not self.tools([step, *step.get("with", [])]):
                    self.result({"terminal_reason": "hook_stopped"})
                    return True
            elif "result" in step:
                self.result(step["result"])
                return True
            elif "reset" in step:
                self.send("conversation_reset", new_conversation_id="n")
            elif "wait" in step:
                while self.read() is not None:
                    pass
                sys.exit(0)
            elif "exit" in step:
                sys.exit(step["exit"])
        return False

    def say(self, step: Any) -> None:
        message: dict[str, Any] = {"role": "assistant", "model": "claude-x"}
        message |= {"id": step.get("id", f"m{self.sent}"), "usage": step.get("usage")}
        message["content"] = [{"type": "text", "text": step["says"]}]
        self.send("assistant", message=message, parent_tool_use_id=None)

    def tools(self, steps: list[Any]) -> bool:
        """Run tools at the same time; whether the run goes on."""
        asked = {f"t{self.sent}-{number}": step for number, step in enumerate(steps)}
        may_run = self.ask("PreToolUse", asked)
        goes_on = True
        for tool_use_id, answers in may_run.items():
            step = asked[tool_use_id]
            if any(answer.get("continue") is False for answer in answers):
                goes_on = False
            denials = [a for a in answers if _decision(a) == "deny" or a.get("error")]
            if denials or step.get("denied"):
                continue
            self.log["ran"].append(step["tool"])
            event = "PostToolUseFailure" if step.get("fails") else "PostToolUse"
            self.ask(event, {tool_use_id: step})
        self.write_log()
        return goes_on

    def ask(self, event: str, tools: dict[str, Any]) -> dict[str, list[Any]]:
        """Have hooks called, all at once; their answers by tool."""
        waiting: dict[str, str] = {}
        for tool_use_id, step in tools.items():
            given: dict[str, Any] = {
                "hook_event_name": event,
                "tool_name": step["tool"],
                "session_id": "s",
            }
            given |= {"tool_input": step.get("input", {}), "tool_use_id": tool_use_id}
            given |= {"tool_response": "ok", "error": "failed"}
            for callback in self.hooks.get(event, []):
                self.sent += 1
                request_id = f"r{self.sent}"
                waiting[request_id] = tool_use_id
                request: dict[str, Any] = {"subtype": "hook_callback", "callback_id": callback}
                request |= {"input": given, "tool_use_id": tool_use_id}
                self.send("control_request", request_id=request_id, request=request)
        answers: dict[str, list[Any]] = {tool_use_id: [] for tool_use_id in tools}
        while waiting:
            message = self.read()
            if message is None:
                sys.exit(0)
            response = message.get("response", {})
            if response.get("request_id") in waiting:
                answer = response.get("response", {"error": response.get("error")})
                answers[waiting.pop(response["request_id"])].append(answer)
                self.log["answers"].append([event, answer])
        self.write_log()
        return answers

    def result(self, fields: Any) -> None:
        about = {"subtype": "success", "duration_ms": 1, "duration_api_ms": 1, "num_turns": 1}
        self.send("result", **(about | {"is_error": False, "result": "done"} | fields))


def _decision(answer: Any) -> Any:
    return (answer.get("hookSpecificOutput") or {}).get("permissionDecision")


if __name__ == "__main__":
    FakeCli().run()
