//! Parts of the language behind switches: what is off is refused with Prometheus' words.

use br_promql::{Engine, FEATURES, Options, parse};

fn refusal(engine: &Engine, query: &str) -> Option<String> {
    let expr = parse(query).expect("well formed");
    engine.check(&expr).err().map(|error| error.message().to_owned())
}

#[test]
fn what_is_off_is_refused_and_each_switch_turns_on_its_own() {
    let cases = [
        (0, "1 + mad_over_time(up[5m])", r#"1:5: parse error: function "mad_over_time" is not enabled"#),
        (
            0,
            "limitk by (job) (1, up)",
            "1:1: parse error: limitk() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
        ),
        (0, "sum(vector(step()))", r#"1:12: parse error: function "step" is not enabled"#),
        (1, "rate(up[5m] anchored)", "1:6: parse error: anchored modifier is experimental and not enabled"),
        (1, "up smoothed", "1:1: parse error: smoothed modifier is experimental and not enabled"),
        (2, "sum(a + fill (0) b)", "1:5: parse error: binop fill modifiers are experimental and not enabled"),
    ];
    for (feature, query, message) in cases {
        assert_eq!(refusal(&Engine::new(Options::stable()), query).as_deref(), Some(message), "{query}");
        for (at, name) in FEATURES.iter().enumerate() {
            let mut options = Options::stable();
            options.enable(name).expect("one of them");
            assert_eq!(refusal(&Engine::new(options), query).is_none(), at == feature, "{query} with {name}");
        }
    }
    assert_eq!(refusal(&Engine::new(Options::stable()), "rate(up[step() * 5])"), None, "always on");
    assert!(Options::stable().enable("agent").is_err());
}
