//! The parameters as flags of a command line, made from [`super::table`].
//!
//! Values stay text until [`ParamFlags::params`], so that they are judged, and refused, in the
//! same words as those of `algoCustomData.json`.

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use super::params::Params;
use super::problem::ParamsError;
use super::table::{Kind, PARAMETERS, Parameter};

/// The flags that were given; `#[command(flatten)]` takes it.
#[derive(Clone, Debug, Default)]
pub struct ParamFlags {
    texts: Vec<(&'static str, String)>,
}

impl ParamFlags {
    /// Judges the values.
    ///
    /// # Errors
    /// Lists every value that is not allowed.
    pub fn params(&self) -> Result<Params, ParamsError> {
        Params::from_texts(self.texts.iter().map(|(name, text)| (*name, text.as_str())))
    }
}

impl FromArgMatches for ParamFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for parameter in &PARAMETERS {
            let is_given = matches.value_source(parameter.name) == Some(ValueSource::CommandLine);
            let text = matches.get_one::<String>(parameter.name).filter(|_| is_given);
            if let Some(text) = text {
                self.texts.retain(|(name, _)| *name != parameter.name);
                self.texts.push((parameter.name, text.clone()));
            }
        }
        Ok(())
    }
}

impl Args for ParamFlags {
    fn augment_args(command: Command) -> Command {
        command.next_help_heading("Parameters").args(PARAMETERS.iter().map(arg))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn arg(parameter: &Parameter) -> Arg {
    let mut help = format!("{} Allowed: {}", parameter.doc, parameter.allowed);
    if !parameter.default.is_empty() {
        help = format!("{help} [default: {}]", parameter.default);
    }
    let arg = Arg::new(parameter.name)
        .long(parameter.flag)
        .value_name("VALUE")
        .allow_negative_numbers(true) // refused later, with all the rest
        .help(help);
    match parameter.kind {
        Kind::Boolean => arg.num_args(0..=1).default_missing_value("true"),
        Kind::Number | Kind::Text | Kind::Select => arg,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        flags: ParamFlags,
    }

    fn params(args: &[&str]) -> Result<Params, ParamsError> {
        Cli::try_parse_from([&["program"], args].concat()).unwrap().flags.params()
    }

    #[test]
    fn flags_and_json_mean_the_same() {
        let flags = params(&["--batch-gpu", "4", "--kimg=0.5", "--mirror", "--cond", "folders"]);
        let json = br#"{"batch_gpu": 4, "kimg": 0.5, "mirror": true, "cond": "folders"}"#;
        assert_eq!(flags, Params::from_json(Some(json)));
        assert_eq!(params(&[]), Ok(Params::default()));
        assert_eq!(params(&["--kimg", ""]), Ok(Params::default()));
    }

    #[test]
    fn flags_and_json_are_refused_in_the_same_words() {
        let flags = params(&["--gamma", "-1", "--batch", "NaN", "--crop", "round"]).unwrap_err();
        let json = br#"{"batch": "NaN", "gamma": -1, "crop": "round"}"#;
        assert_eq!(flags.lines().len(), 3);
        let mut from_json = Params::from_json(Some(json)).unwrap_err().lines();
        from_json.sort();
        let mut from_flags = flags.lines();
        from_flags.sort();
        assert_eq!(from_flags, from_json);
    }

    #[test]
    fn a_flag_is_given_once_and_known() {
        assert!(Cli::try_parse_from(["program", "--kimg", "1", "--kimg", "2"]).is_err());
        assert!(Cli::try_parse_from(["program", "--outdir", "x"]).is_err());
    }
}
