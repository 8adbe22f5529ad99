//! Which command lines are the job's.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::launched;

/// The root of the job that `arguments` ask for; `None` if they ask for anything else, a mistake
/// included, about which the program has more to say.
pub(crate) fn root_of_job(arguments: &[OsString]) -> Option<PathBuf> {
    let mut root = PathBuf::from(launched::ROOT);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let text = argument.to_str()?;
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, OsString::from(value)),
            None => (text, rest.next()?.clone()),
        };
        match name {
            "--root" if !value.is_empty() => root = value.into(),
            "--threads" if value.to_str()?.parse::<usize>().is_ok() => (),
            "--policy" => (), // a wrong one is refused by the program
            _ => return None,
        }
    }
    Some(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(arguments: &[&str]) -> Option<String> {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        root_of_job(&arguments).map(|root| root.display().to_string())
    }

    #[test]
    fn the_job_and_everything_else() {
        assert_eq!(root(&[]).as_deref(), Some("/data"));
        assert_eq!(root(&["--root", "/x", "--threads=2"]).as_deref(), Some("/x"));
        assert_eq!(root(&["--threads", "2", "--root=/y"]).as_deref(), Some("/y"));
        assert_eq!(root(&["--policy", "{}", "--root=/y"]).as_deref(), Some("/y"));
        for other in [
            &["generate"][..],
            &["--help"],
            &["--root"],
            &["--root="],
            &["--threads", "many"],
            &["--root", "/x", "check"],
            &["--launched"],
            &["--launched", "x"],
        ] {
            assert_eq!(root(other), None, "{other:?}");
        }
    }
}
