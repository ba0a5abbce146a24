"""Rate and time left of things that end one by one, in numbers and in words."""

_PATIENCE = 2.0  # seconds before a rate is worth showing
_MINUTE, _HOUR = 60, 3600
_ROUND = 100  # a rate from which on tenths say nothing


class Pace:
    """Rate and time left of things that end one by one. Times are seconds of a monotonic clock."""

    def __init__(self, total: int, before: int, begun: float) -> None:
        """`before`: how many of `total` were ready when it began; they count for the share, not for the rate."""
        self.total, self.before, self.done, self.begun = total, before, before, begun
        self.last = begun
        self._ends: float | None = None

    def seen(self, done: int, now: float) -> None:
        """So many are done now. The end is foreseen anew whenever one more is, half by the old guess."""
        if done <= self.done or now <= self.begun:
            return
        self.done, self.last = done, now
        if self.rate:
            ends = now + (self.total - done) / self.rate
            self._ends = ends if self._ends is None else (self._ends + ends) / 2

    @property
    def rate(self) -> float:
        """Per second, up to the last one that ended; 0 before the first."""
        return (self.done - self.before) / (self.last - self.begun) if self.last > self.begun else 0.0

    def left(self, now: float) -> float | None:
        """Seconds; None while it cannot be told."""
        if self._ends is None or now - self.begun < _PATIENCE:
            return None
        return max(0.0, self._ends - now)

    def words(self, what: str, now: float, rows: int = 0) -> list[str]:
        """`3/8 parts`, share, and once they mean something the rates and the time left."""
        out = [f"{self.done:,}/{self.total:,} {what}", f"{100 * self.done // max(self.total, 1):.0f} %"]
        left = self.left(now)
        if left is not None:
            out.append(rate(self.rate, what))
            if rows:
                out.append(rate(rows / (self.last - self.begun), "rows"))
            out.append(f"{clock(left)} left")
        return out


def rate(each: float, what: str) -> str:
    """`1.2 parts/s`, or by the minute where that is less than one."""
    if each < 1:
        return f"{_MINUTE * each:.1f} {what}/min"
    return f"{each:,.{0 if each >= _ROUND else 1}f} {what}/s"


def clock(seconds: float) -> str:
    """`0:04`, `1:02:05`."""
    minutes, rest = divmod(round(seconds), _MINUTE)
    return f"{minutes}:{rest:02d}" if seconds < _HOUR else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
