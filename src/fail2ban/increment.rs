//! Options `bantime.*`, from their texts to what a jail computes with.

use std::sync::Arc;

use super::arithmetic::{self, Ban, Formula, Number};
use super::options;
use crate::config;
use crate::jail;
use crate::jail::increment::Growth;

/// Makes the options ready for use. Multipliers stand before the formula, and the formula before
/// the usual doubling, as in Fail2Ban; an empty text is as good as none.
///
/// # Errors
/// One sentence that names the option, if a text in use is no arithmetic or no list of whole numbers.
pub fn increment(settings: &config::Increment) -> Result<jail::Increment, String> {
    let set = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
    let factor = match set(&settings.factor) {
        Some(text) => {
            arithmetic::number(&text).map_err(|error| format!("bantime.factor `{text}` has no value: {error}"))?
        }
        None => Number::Int(1),
    };
    let growth = if let Some(text) = set(&settings.multipliers) {
        Growth::Multipliers(factor.as_f64(), multipliers(&text)?)
    } else if let Some(text) = set(&settings.formula) {
        let formula = Formula::parse(&text).map_err(|error| {
            format!("bantime.formula `{text}` is wrong at character {}: {error}", place(&text, &error))
        })?;
        Growth::Formula(Arc::new(move |time, count, random| {
            let ban = Ban { time: whole(time), count, factor };
            formula.value(&ban, random).ok().map(Number::as_f64)
        }))
    } else {
        Growth::Doubling(factor.as_f64())
    };
    let (maxtime, rndtime) = (settings.maxtime, settings.rndtime);
    let (enabled, overalljails) = (settings.enabled, settings.overalljails);
    Ok(jail::Increment { enabled, growth, maxtime, rndtime, overalljails })
}

fn multipliers(text: &str) -> Result<Vec<f64>, String> {
    text.split(' ')
        .map(|word| options::integer(word).map(|number| number as f64))
        .collect::<Option<Vec<f64>>>()
        .ok_or_else(|| format!("bantime.multipliers `{text}` is no list of whole numbers with one blank between them"))
}

/// The place of an error as people count: characters from 1.
fn place(text: &str, error: &arithmetic::Error) -> usize {
    text.get(..error.at).map_or(0, |before| before.chars().count()) + 1
}

/// Seconds as Python has them in a formula: a whole number, mostly.
fn whole(seconds: f64) -> Number {
    if seconds.fract() == 0.0 { Number::Int(seconds as i128) } else { Number::Float(seconds) }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    fn options(list: &[(&str, &str)]) -> config::Increment {
        let mut increment = config::Increment { enabled: true, ..config::Increment::default() };
        for (name, text) in list {
            let value = Some((*text).to_owned());
            let seconds = || Some(super::super::time::seconds(text).unwrap().as_f64());
            match *name {
                "factor" => increment.factor = value,
                "formula" => increment.formula = value,
                "multipliers" => increment.multipliers = value,
                "maxtime" => increment.maxtime = seconds(),
                "rndtime" => increment.rndtime = seconds(),
                other => panic!("{other}"),
            }
        }
        increment
    }

    #[test]
    fn bans_grow_as_the_options_say() {
        type Case = (&'static [(&'static str, &'static str)], &'static [u32], &'static [f64]);
        let of_10_m: &[Case] = &[
            (&[], &[1, 2, 3, 10, 25], &[1200.0, 2400.0, 4800.0, 614_400.0, 629_145_600.0]),
            (&[("factor", "0.5")], &[1, 2, 3], &[600.0, 1200.0, 2400.0]),
            (&[("factor", " 1/2 ")], &[1, 2], &[600.0, 1200.0]),
            (&[("multipliers", "1 2 4"), ("factor", "3")], &[1, 2, 3], &[3600.0, 7200.0, 7200.0]),
            (&[("multipliers", "1 2 4 8 16 32 64")], &[0, 1, 7], &[600.0, 1200.0, 38400.0]),
            (&[("maxtime", "1h")], &[1, 2, 3], &[1200.0, 2400.0, 3600.0]),
            // the random share is not capped; half of it here
            (&[("maxtime", "1h"), ("rndtime", "1000")], &[3], &[4100.0]),
            (
                &[("formula", "ban.Time * (1<<(ban.Count if ban.Count<20 else 20)) * banFactor")],
                &[1, 30],
                &[1200.0, 629_145_600.0],
            ),
            (&[("formula", "ban.Time * math.exp(float(ban.Count+1)*banFactor)/math.exp(1*banFactor)")], &[0], &[600.0]),
            (&[("formula", "ban.Time * random.random() * 6"), ("factor", "2")], &[1], &[1800.0]),
            (&[("formula", "ban.Time / 2")], &[1], &[600.0]),
            (&[("formula", "ban.Time / (ban.Count - 1)")], &[1, 2], &[600.0, 600.0]),
            (&[("formula", "nonsense"), ("multipliers", "1 5")], &[1], &[3000.0]),
            (&[("formula", ""), ("multipliers", ""), ("factor", "")], &[1], &[1200.0]),
        ];
        for (list, counts, expected) in of_10_m {
            let increment = increment(&options(list)).unwrap();
            let times: Vec<f64> = counts.iter().map(|count| increment.bantime(600.0, *count, &mut || 0.5)).collect();
            assert_eq!(times, *expected, "{list:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_by_name() {
        for (name, text, message) in [
            ("factor", "1;2", "bantime.factor `1;2` has no value: unexpected `;`"),
            ("factor", "1/0", "bantime.factor `1/0` has no value: division by zero"),
            (
                "formula",
                "ban.Time * os.system(1)",
                "bantime.formula `ban.Time * os.system(1)` is wrong at character 12: unknown word `os.system`",
            ),
            (
                "multipliers",
                "1  2",
                "bantime.multipliers `1  2` is no list of whole numbers with one blank between them",
            ),
            ("multipliers", "1,2", "bantime.multipliers `1,2` is no list of whole numbers with one blank between them"),
        ] {
            assert_eq!(increment(&options(&[(name, text)])).unwrap_err(), message);
        }
    }
}
