"""How many requests a period the service accepts: learned from what it accepts and what it refuses.

    refused ──▶ limit = what a period has accepted ──▶ trial: one request above it, then 2, 4, 8, 16
                  ▲                                      ├─ accepted: a stray refusal, back to the limit before
                  └──── again later, then much later ◀───┴─ refused: the limit holds

One refusal alone proves nothing: gateways and scripts refuse at random. A quota refuses whatever comes above it, and
the trials ask just that. Where refusals were stray ones, more of them in a row are called for before the next doubt.
Later trials find a quota that has grown, or that others no longer use.

The window slides, and a request counts from its grant until a period after its answer. The service counts it somewhere
between, so no minute of its own, sliding or fixed, ever holds more than the limit.
"""

from collections import deque
from collections.abc import Callable
from math import inf

_TRIALS_S = (1.0, 2.0, 4.0, 8.0, 16.0)  # waits after the trials that fail, the first of which comes at once
_BEFORE_END_S = 0.5  # how long before the first period ends its trial comes: no grant of ours has run out then
_SCARCE = 30  # requests a period: rather what others have left than a quota; they may be gone a period later
_GROW_S = 300.0  # until a limit that held in all trials is tried again: one request in thousands
_LONGEST_GROW_S = 1200.0
_FIRST_GROWTH = 0.1  # of the limit, at most, in the first period of growth; twice as much in each that follows
_SURE_BATCH = 16  # a trial of so many that passes ends the doubt
_STRAY_REFUSALS = 3  # for each that is accepted: a quota accepts hardly any above it
_MOST_PATIENCE = 16
_NEAR = 0.9  # of the limit: a refusal from here on corrects it by little, and needs no trial
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 300.0  # whatever the service asks for; then somebody has to look
_POLL_S = 0.02
_SOON_S = 1e-6  # shorter times are rounding


class Quota:
    """Counts requests and learns the limit; not for threads. Times are seconds of any clock.

    Args:
      limit: Requests a period that are granted before anything is known.
      period_s: Seconds of a period.
      jitter: A number from 0 to 1, new at each call.
    """

    def __init__(self, limit: float, period_s: float, jitter: Callable[[], float]) -> None:
        self.limit = limit
        self.serial = 0
        self._period_s, self._jitter = period_s, jitter
        self._sure_limit = limit  # what the limit goes back to where it was cut for nothing
        self._under_way: set[int] = set()
        self._answered: deque[float] = deque()
        self._first_period_ends = self._trial_at = inf
        self._cut = 0  # grants up to this number were made before the limit was last cut
        self._failed_trials = 0
        self._surprises = 0  # refusals within the limit with nothing accepted between them
        self._patience = 1  # so many of them begin a doubt: more where they were stray ones before
        self._paused_until = -inf
        self._grow_s, self._growth = _GROW_S, _FIRST_GROWTH
        # A trial: requests of a batch to grant still, those under way, what came of the others, and the rise so far.
        self._batch, self._left, self._raised = 1, 0, 0
        self._trial: set[int] = set()
        self._tally = [0, 0]  # accepted, refused

    def used(self, now: float) -> int:
        """Requests under way, and those accepted in the period that ends now."""
        while self._answered and self._answered[0] + self._period_s <= now + _SOON_S:
            self._answered.popleft()
        return len(self._answered) + len(self._under_way)

    def wait_s(self, now: float) -> float:
        """Seconds until to ask again; 0 where a request may be granted."""
        if now + _SOON_S < self._paused_until:
            return self._paused_until - now
        over = self.used(now) - int(self.limit)
        if over < 0 or self._left:
            return 0.0
        if self._may_try() and now + _SOON_S >= self._trial_at:
            self._left = self._batch
            return 0.0
        # An answer that is still to come may free its place, or clear the way for a trial, at any time.
        soon = now + _POLL_S if self._under_way else inf
        frees_at = self._answered[over] + self._period_s if over < len(self._answered) else soon
        tries_at = self._trial_at if self._may_try() else soon if self._trial_at <= now else inf
        return max(0.0, min(frees_at, tries_at) - now)

    def grant(self, now: float) -> int:
        """Counts a request that is about to be sent; returns its number."""
        self.serial += 1
        if self.serial == 1:
            self._first_period_ends = now + self._period_s
            self._trial_at = now + self._grow_s
        if self.used(now) >= int(self.limit):
            self._left -= 1
            self._trial.add(self.serial)
        self._under_way.add(self.serial)
        return self.serial

    def accepted(self, grant: int, now: float) -> None:
        """Counts a request that was not refused for the quota; what has been counted already is left as it is."""
        if grant in self._under_way:
            self._under_way.remove(grant)
            self._answered.append(now)
            self._surprises = 0 if grant > self._cut else self._surprises
            self._judge(grant, now, refused=0)

    def refused(self, grant: int, now: float, retry_after_s: float | None = None) -> None:
        """Learns from a request that was refused for the quota, and pauses where that is called for."""
        self._under_way.discard(grant)
        used = float(self.used(now))
        if grant in self._trial:
            self._judge(grant, now, refused=1)
        elif grant <= self._cut:
            # Under way when the limit was cut: it only makes the count exact.
            self.limit = min(self.limit, used)
        else:
            self._surprises += 1
            if self._surprises >= self._patience:
                self._doubt(used, now)
            # Up to there they may be stray ones, which cost nobody else a wait.
            if self._surprises > self._patience:
                pause_s = min(self._period_s, _FIRST_PAUSE_S * 2 ** (self._surprises - self._patience - 1))
                self._pause(now + pause_s * (0.5 + self._jitter() / 2))
        if retry_after_s is not None:
            asked_s = min(retry_after_s, _LONGEST_PAUSE_S)
            self._pause(now + asked_s + min(1.0, asked_s / 10) * self._jitter())

    def _pause(self, until: float) -> None:
        self._paused_until = max(self._paused_until, until)

    def _is_in_doubt(self) -> bool:
        return self.limit < self._sure_limit

    def _doubt(self, used: float, now: float) -> None:
        if self._is_in_doubt():
            self.limit = used
        elif used >= _NEAR * self.limit:
            self._be_sure_of(used)
            self._trial_at = max(self._trial_at, now + self._period_s)
        else:
            self.limit, self._failed_trials, self._trial_at = used, 0, now
        self._cut = self.serial
        self._forget_trial()

    def _be_sure_of(self, limit: float) -> None:
        self.limit = self._sure_limit = max(1.0, limit)

    def _forget_trial(self) -> None:
        self._batch, self._left, self._raised = 1, 0, 0
        self._trial = set()
        self._tally = [0, 0]

    def _may_try(self) -> bool:
        # While requests of before the cut are under way, the limit is not exact.
        return not self._trial and not any(grant <= self._cut for grant in self._under_way)

    def _judge(self, grant: int, now: float, *, refused: int) -> None:
        if grant not in self._trial:
            return
        self._trial.remove(grant)
        self._tally[refused] += 1
        if self._trial or self._left:
            return
        accepted, refusals = self._tally
        self._tally = [0, 0]
        # A doubt is there because refusals may be stray ones; growth wants better proof.
        if refusals <= accepted * (_STRAY_REFUSALS if self._is_in_doubt() else 1):
            self._pass(accepted, now)
        else:
            self._fail(now)

    def _pass(self, accepted: int, now: float) -> None:
        self._raised += accepted
        if self._is_in_doubt():
            self.limit = min(self.limit + accepted, self._sure_limit)
            is_done = self._batch >= _SURE_BATCH or not self._is_in_doubt()
            self._trial_at = now + self._grow_s if is_done else now
            self._batch *= 2
            if is_done:
                self._patience = min(2 * self._patience, _MOST_PATIENCE)
        else:
            self._grow_s = _GROW_S
            left = max(_SURE_BATCH, int(self.limit * self._growth)) - self._raised
            self._be_sure_of(self.limit + accepted)
            is_done = left <= 0
            self._trial_at = now + self._period_s if is_done else now
            self._growth *= 2 if is_done else 1
            self._batch = min(2 * self._batch, left)
        if is_done:
            self._be_sure_of(self._sure_limit)
            self._forget_trial()

    def _fail(self, now: float) -> None:
        self._forget_trial()
        self._failed_trials += 1
        if not self._is_in_doubt():
            self._grow_s, self._growth = min(2 * self._grow_s, _LONGEST_GROW_S), _FIRST_GROWTH
            self._trial_at = now + self._grow_s
        elif self._failed_trials <= len(_TRIALS_S):
            # Two tell a stray refusal better; where all are refused, one will do.
            self._batch = 2 if self._answered else 1
            self._trial_at = now + _TRIALS_S[self._failed_trials - 1]
        elif now < self._first_period_ends - _BEFORE_END_S:
            # What was used before this process began is known to nobody, and has run out by then.
            self._trial_at = self._first_period_ends - _BEFORE_END_S
        elif self.limit < _SCARCE:
            self._trial_at = now + self._period_s
        else:
            self._be_sure_of(self.limit)
            self._patience = 1
            self._trial_at = now + self._grow_s
