"""EventBridge: rules that start state machines, on a schedule or after an event of the account's own."""

import json
import logging
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from moto.core.exceptions import JsonRESTError, ServiceException
from moto.events.models import Rule
from moto.stepfunctions.responses import get_backend

from emulator.gaps import wrap

from .place import Place, backends
from .policies import allows, find_role, role_documents, trusts
from .schedules import is_due

log = logging.getLogger(__name__)

SERVICE_PRINCIPAL = "events.amazonaws.com"
MOST_MINUTES = 60 * 24 * 31
"""Minutes for which schedules are made up after the clock was advanced."""


class EventBridge:
    """Fires the scheduled rules of all regions, once a minute."""

    def __init__(self) -> None:
        self._offset = timedelta()
        self._minute = _minute(self.now())
        self._seen: dict[int, datetime] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="eventbridge", daemon=True)
        self._thread.start()
        _start_state_machines()

    def now(self) -> datetime:
        """The time by which schedules go."""
        return datetime.now(UTC) + self._offset

    def advance(self, seconds: float) -> datetime:
        """Put the clock of the schedules forward (for tests), firing what falls due; the new time."""
        self._notice_rules()
        self._offset += timedelta(seconds=seconds)
        self._fire_due()
        return self.now()

    def reset(self) -> None:
        """Forget when rules were first seen, and let the clock be right again."""
        with self._lock:
            self._seen.clear()
            self._offset = timedelta()
            self._minute = _minute(self.now())

    def stop(self) -> None:
        """End the clock."""
        self._stopped.set()
        self._thread.join()

    def _loop(self) -> None:
        while not self._stopped.wait(1):
            self._notice_rules()
            self._fire_due()

    def _notice_rules(self) -> None:
        for _, rule in _scheduled_rules():
            self._seen.setdefault(id(rule), _minute(self.now()))

    def _fire_due(self) -> None:
        """Fire what is due in each minute that has begun since the last look."""
        with self._lock:
            current = _minute(self.now())
            self._minute = max(self._minute, current - timedelta(minutes=MOST_MINUTES))
            while self._minute < current:
                self._minute += timedelta(minutes=1)
                for place, rule in _scheduled_rules():
                    self._fire_if_due(place, rule, self._minute)

    def _fire_if_due(self, place: Place, rule: Rule, moment: datetime) -> None:
        since = self._seen.get(id(rule), moment)
        try:
            due = is_due(rule.scheduled_expression, since, moment)
        except ValueError as error:
            log.error("rule %s: %s", rule.name, error)
            return
        if due:
            event = _event(place, "aws.events", "Scheduled Event", [rule.arn], {}, moment)
            for target in list(rule.targets):
                _invoke(place, target, event)


def publish(place: Place, source: str, detail_type: str, resources: list[str], detail: dict[str, Any]) -> None:
    """Put an event of an AWS service on the default bus."""
    event = _event(place, source, detail_type, resources, detail, datetime.now(UTC))
    bus = place.backend("events").event_buses["default"]
    for rule in list(bus.rules.values()):
        if rule.state == "ENABLED" and not rule.scheduled_expression:
            rule.send_to_targets(event)


def _start_state_machines() -> None:
    """Let rules that match an event start state machines, which moto's do not."""

    @wrap(Rule, "send_to_targets")
    def send_to_targets(
        original: Callable[..., None], self: Rule, original_event: Any, transform_input: bool = True
    ) -> None:
        if self.event_pattern.matches_event(original_event):
            for target in self.targets:
                if ":states:" in target["Arn"]:
                    _invoke(Place(self.account_id, self.region_name), target, original_event)
        others = [target for target in self.targets if ":states:" not in target["Arn"]]
        if others:
            original(self, original_event, transform_input)


def _invoke(place: Place, target: dict[str, Any], event: dict[str, Any]) -> None:
    """Start a target's state machine as the target's role; EventBridge drops what the role may not do."""
    arn, role = target["Arn"], target.get("RoleArn", "")
    if ":states:" not in arn:
        log.warning("targets like %s are not invoked", arn)
        return
    allowed = trusts(place, role, SERVICE_PRINCIPAL) and allows(
        role_documents(place, find_role(place, role).name), "states:StartExecution", arn
    )
    if not allowed:
        log.error("the role '%s' of a rule's target may not start %s", role, arn)
        return
    try:
        get_backend(place.account, place.region).start_execution(
            arn, str(uuid.uuid4()), target.get("Input") or json.dumps(event)
        )
    except (ServiceException, JsonRESTError) as error:
        log.error("%s could not be started: %s", arn, error)


def _scheduled_rules() -> Iterator[tuple[Place, Rule]]:
    for place, events in backends("events"):
        for bus in list(events.event_buses.values()):
            for rule in list(bus.rules.values()):
                if rule.scheduled_expression and rule.state == "ENABLED":
                    yield place, rule


def _event(
    place: Place, source: str, detail_type: str, resources: list[str], detail: dict[str, Any], moment: datetime
) -> dict[str, Any]:
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": detail_type,
        "source": source,
        "account": place.account,
        "time": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": place.region,
        "resources": resources,
        "detail": detail,
    }


def _minute(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)
