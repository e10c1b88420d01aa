//! The options of the example that measures fairness.

use std::time::Duration;

#[expect(dead_code, reason = "its `main` is for the command line")]
#[path = "../../examples/fairness/main.rs"]
mod example;

use example::Options;

#[test]
fn a_wrong_option_is_named_with_what_was_expected() {
    for (option, expected) in [
        ("runs=0", "a whole number of at least 1"),
        ("runs=1,2", "a whole number of at least 1"),
        ("seconds=0", "a number of seconds above 0"),
        ("seconds=-1", "a number of seconds above 0"),
        ("seconds=nan", "a number of seconds above 0"),
        ("seconds=inf", "a number of seconds above 0"),
        ("seconds=1e30", "a number of seconds above 0"),
        ("seconds=two", "a number of seconds above 0"),
        ("runtimes=tokyo", "some of tokio,smol,async-std"),
        ("threads=1,many", "whole numbers up to 65535"),
        ("others=", "whole numbers up to 65535"),
        ("kinds=pings,poems", "some of pings,pongs,"),
        ("second=1", "one of runs, seconds, "),
        ("quick", "the form name=value"),
    ] {
        let problem = Options::parse([option]).err().expect(option);
        assert_eq!(problem.split(": ").next(), Some(&*format!("wrong option {option:?}")));
        assert!(problem.contains(&format!(": expected {expected}")), "{problem}");
    }
}

#[test]
fn options_may_be_given_or_left_out() {
    let options = Options::parse([]).unwrap_or_else(|problem| panic!("{problem}"));
    assert_eq!((options.runs, options.time), (5, Duration::from_secs(2)));
    let given = ["seconds=0.6", "threads=3,0", "kinds=busy,pings", "runtimes=smol"];
    let options = Options::parse(given).unwrap_or_else(|problem| panic!("{problem}"));
    assert_eq!((options.time, options.threads), (Duration::from_millis(600), vec![3, 0]));
    assert_eq!((options.kinds, options.runtimes), (vec!["busy".into(), "pings".into()], vec!["smol".into()]));
}
