//! Times as people say them: what `--since`, `--until`, `--around` and `--tz` mean for a recording. In: texts and the time
//! that was recorded. Out: nanoseconds of UTC, and texts in the zone that was asked for. A time that may mean two is an
//! error, never a guess.

use anyhow::{Context, bail};
use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// A stretch of time, both ends in it; an end that nobody named is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stretch {
    /// First nanosecond.
    pub from_ns: Option<i64>,
    /// Last nanosecond.
    pub to_ns: Option<i64>,
}

impl Stretch {
    /// The part of both.
    pub fn and(self, other: Stretch) -> Stretch {
        Stretch {
            from_ns: self.from_ns.max(other.from_ns),
            to_ns: match (self.to_ns, other.to_ns) {
                (Some(one), Some(two)) => Some(one.min(two)),
                (one, two) => one.or(two),
            },
        }
    }

    /// All from the first to the last time of either.
    pub fn hull(self, other: Stretch) -> Stretch {
        Stretch {
            from_ns: self.from_ns.zip(other.from_ns).map(|(one, two)| one.min(two)),
            to_ns: self.to_ns.zip(other.to_ns).map(|(one, two)| one.max(two)),
        }
    }
}

/// What was asked for on the command line.
#[derive(clap::Args, Clone, Debug)]
pub struct TimeArgs {
    /// Only what was alive at or after this time: RFC 3339, a time of day, or a span before the end of the recording (10m)
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only what began at or before this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Only what was alive around this time: RFC 3339 or a time of day, such as 03:12
    #[arg(long, value_name = "TIME", conflicts_with_all = ["since", "until"])]
    pub around: Option<String>,
    /// How far --around reaches to either side
    #[arg(long, value_name = "SPAN", default_value = "5m", requires = "around")]
    pub within: String,
    /// Zone of the times of day given and of the times in tables: UTC, local, or a name such as Europe/Berlin
    #[arg(long, value_name = "ZONE", env = "SHARKQ_TZ", default_value = "UTC")]
    pub tz: String,
}

impl Default for TimeArgs {
    fn default() -> TimeArgs {
        TimeArgs { since: None, until: None, around: None, within: "5m".into(), tz: "UTC".into() }
    }
}

impl TimeArgs {
    /// The zone.
    pub fn zone(&self) -> anyhow::Result<TimeZone> {
        match self.tz.as_str() {
            "UTC" | "utc" => Ok(TimeZone::UTC),
            "local" => Ok(TimeZone::system()),
            name => TimeZone::get(name).map_err(|_| {
                anyhow::anyhow!(
                    "there is no time zone {name} here; say UTC, local, or a name such as Europe/Berlin"
                )
            }),
        }
    }

    /// Whether any time was asked for.
    pub fn are_given(&self) -> bool {
        self.since.is_some() || self.until.is_some() || self.around.is_some()
    }

    /// The stretch that was asked for of a recording of this time.
    pub fn stretch(&self, recorded: Stretch) -> anyhow::Result<Stretch> {
        let zone = self.zone()?;
        let moment =
            |text: &Option<String>| text.as_ref().map(|text| moment(text, &zone, recorded)).transpose();
        if let Some(middle_ns) = moment(&self.around)? {
            let reach_ns = span_ns(&self.within)
                .with_context(|| format!("--within {}: give a span such as 30s, 5m or 1h", self.within))?;
            let (from_ns, to_ns) = (middle_ns.saturating_sub(reach_ns), middle_ns.saturating_add(reach_ns));
            return Ok(Stretch { from_ns: Some(from_ns), to_ns: Some(to_ns) });
        }
        let stretch = Stretch { from_ns: moment(&self.since)?, to_ns: moment(&self.until)? };
        if let (Some(from_ns), Some(to_ns)) = (stretch.from_ns, stretch.to_ns)
            && from_ns > to_ns
        {
            bail!("--since {} is after --until {}", shown(from_ns, &zone), shown(to_ns, &zone));
        }
        Ok(stretch)
    }
}

/// A time as people read it, with its zone.
pub fn shown(ns: i64, zone: &TimeZone) -> String {
    let Ok(stamp) = Timestamp::from_nanosecond(ns.into()) else { return format!("{ns} ns") };
    let zoned = stamp.to_zoned(zone.clone());
    let whole = if ns % 1_000_000_000 == 0 { "" } else { "%.3f" };
    zoned.strftime(&format!("%Y-%m-%d %H:%M:%S{whole} %Z")).to_string()
}

fn moment(text: &str, zone: &TimeZone, recorded: Stretch) -> anyhow::Result<i64> {
    if let Ok(stamp) = text.parse::<Timestamp>() {
        return ns(stamp);
    }
    if let Ok(civil) = text.parse::<jiff::civil::DateTime>()
        && text.len() > 8
    {
        return ns(civil.to_zoned(zone.clone())?.timestamp());
    }
    if let Ok(time) = text.parse::<Time>() {
        return time_of_day(text, time, zone, recorded);
    }
    if let Some(span_ns) = span_ns(text) {
        let end_ns = recorded.to_ns.context("the recording is empty: nothing to count back from")?;
        return Ok(end_ns.saturating_sub(span_ns));
    }
    bail!("{text} is no time; give RFC 3339 (2026-11-21T03:12:00Z), a time of day (03:12) or a span (10m)")
}

/// The one moment of the recording at which clocks in the zone showed that.
fn time_of_day(text: &str, time: Time, zone: &TimeZone, recorded: Stretch) -> anyhow::Result<i64> {
    let (Some(from_ns), Some(to_ns)) = (recorded.from_ns, recorded.to_ns) else {
        bail!("the recording is empty: nobody knows which day {text} is meant of; give the date");
    };
    let date = |ns: i64| anyhow::Ok(Timestamp::from_nanosecond(ns.into())?.to_zoned(zone.clone()).date());
    let (first, last) = (date(from_ns)?, date(to_ns)?);
    let mut found = Vec::new();
    let mut day = first;
    while day <= last {
        let ns = ns(day.to_datetime(time).to_zoned(zone.clone())?.timestamp())?;
        // Someone who says 03:12 means the minute.
        if (from_ns.saturating_sub(60_000_000_000)..=to_ns).contains(&ns) {
            found.push(ns);
        }
        day = day.tomorrow()?;
    }
    let (from, to) = (shown(from_ns, zone), shown(to_ns, zone));
    match found[..] {
        [one] => Ok(one),
        [] => bail!("{text} was not recorded: the recording is from {from} to {to}; is --tz right?"),
        _ => bail!("{text} was on several days between {from} and {to}; give the date"),
    }
}

fn ns(stamp: Timestamp) -> anyhow::Result<i64> {
    i64::try_from(stamp.as_nanosecond()).context("a time between 1677 and 2262 is needed")
}

/// A span such as 30s or 5m, in nanoseconds.
pub fn span_ns(text: &str) -> Option<i64> {
    let span: SignedDuration = text.parse().ok()?;
    i64::try_from(span.as_nanos()).ok().filter(|ns| *ns >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(around: &str, tz: &str, recorded: (&str, &str)) -> anyhow::Result<String> {
        let ns = |text: &str| text.parse::<Timestamp>().expect("a time").as_nanosecond() as i64;
        let recorded = Stretch { from_ns: Some(ns(recorded.0)), to_ns: Some(ns(recorded.1)) };
        let args = TimeArgs {
            around: Some(around.into()),
            within: "1m".into(),
            tz: tz.into(),
            ..TimeArgs::default()
        };
        let stretch = args.stretch(recorded)?;
        Ok(shown(stretch.from_ns.expect("it has a start"), &TimeZone::UTC))
    }

    const NIGHT: (&str, &str) = ("2026-11-21T03:10:00Z", "2026-11-21T03:20:00Z");

    #[test]
    fn a_time_of_day_is_that_of_the_recording() {
        assert_eq!(ask("03:12", "UTC", NIGHT).unwrap(), "2026-11-21 03:11:00 UTC");
        assert_eq!(ask("2026-11-21T03:12:30Z", "UTC", NIGHT).unwrap(), "2026-11-21 03:11:30 UTC");
        // The minute in which the recording began.
        let begun = ("2026-11-21T03:12:40Z", "2026-11-21T03:20:00Z");
        assert_eq!(ask("03:12", "UTC", begun).unwrap(), "2026-11-21 03:11:00 UTC");
    }

    #[test]
    fn what_is_not_certain_is_refused() {
        let wrong = |text: &str, recorded| ask(text, "UTC", recorded).unwrap_err().to_string();
        assert!(
            wrong("14:12", NIGHT).contains("was not recorded: the recording is from 2026-11-21 03:10:00 UTC")
        );
        let days = ("2026-11-19T00:00:00Z", "2026-11-21T03:20:00Z");
        assert!(wrong("03:12", days).contains("several days"));
        assert!(wrong("tea time", NIGHT).contains("is no time"));
        assert!(ask("03:12", "Mars/Olympus", NIGHT).unwrap_err().to_string().contains("no time zone"));
    }

    #[test]
    fn spans_count_back_from_the_end() {
        let recorded = Stretch { from_ns: Some(0), to_ns: Some(600_000_000_000) };
        let args = TimeArgs { since: Some("1m".into()), tz: "UTC".into(), ..TimeArgs::default() };
        assert_eq!(args.stretch(recorded).unwrap().from_ns, Some(540_000_000_000));
        let args = TimeArgs { until: Some("2m".into()), ..args };
        assert!(args.stretch(recorded).unwrap_err().to_string().contains("is after --until"));
    }
}
