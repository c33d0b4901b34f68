use super::*;
use crate::Frame;

/// `own` frames are `path:function`, those of libraries have a `-` before them; outermost first, separated by spaces.
fn exception(exception_type: &str, frames: &str) -> Exception {
    let frame = |text: &str| {
        let own = text.strip_prefix('-');
        let (path, function) = own.unwrap_or(text).rsplit_once(':').expect("path:function");
        Frame { filename: path.into(), function: function.into(), in_app: own.is_none(), line: 7, ..Frame::default() }
    };
    let frames = frames.split_whitespace().map(frame).collect();
    Exception { exception_type: exception_type.into(), frames, ..Exception::default() }
}

fn event(exceptions: Vec<Exception>) -> ErrorEvent {
    ErrorEvent { exceptions, ..ErrorEvent::default() }
}

fn check(frames: &str, expect: &str) {
    let explanation = group(&event(vec![exception("E", frames)])).explanation;
    assert_eq!(explanation.strip_prefix("br1: E in "), Some(expect), "{frames}");
}

fn check_same(is_same: bool, one: &ErrorEvent, other: &ErrorEvent) {
    let (one, other) = (group(one), group(other));
    assert_eq!(one.hash == other.hash, is_same, "{}\n{}", one.explanation, other.explanation);
}

#[test]
fn own_frames_count_and_libraries_do_not() {
    check("/srv/shop/a.py:f -/v/site-packages/lib/x.py:g /srv/shop/b.py:h", "shop.a.f → shop.b.h (left out: 1 of libraries)");
    check("-/v/site-packages/lib/x.py:g -/v/site-packages/lib/y.py:h", "lib.x.g → lib.y.h");
    check("/usr/lib/python3.13/json/decoder.py:decode /srv/shop/a.py:f", "shop.a.f (left out: 1 of libraries)");
}

#[test]
fn wrappers_comprehensions_and_entries_do_not_count() {
    check("/srv/shop/a.py:f /srv/shop/d.py:wrapper /srv/shop/b.py:g", "shop.a.f → shop.b.g (left out: 1 that only wrap)");
    check("/srv/shop/d.py:wrapper", "shop.d.wrapper");
    check("/srv/shop/a.py:<module> /srv/shop/a.py:main", "shop.a.main (left out: 1 that only wrap)");
    check("/srv/shop/a.py:<module>", "shop.a.<module>");
    check("/srv/shop/a.py:f /srv/shop/a.py:<listcomp> /srv/shop/a.py:g", "shop.a.f → shop.a.g");
    check(
        "-/usr/lib/python3.13/asyncio/runners.py:run -/v/site-packages/tenacity/__init__.py:call -/v/site-packages/lib/x.py:g",
        "lib.x.g (left out: 2 that only wrap)",
    );
    check("-/usr/lib/python3.13/asyncio/timeouts.py:__aexit__", "asyncio.timeouts.__aexit__");
}

#[test]
fn middleware_does_not_count_and_its_own_faults_do() {
    let starlette = "-/v/site-packages/starlette/routing.py:app";
    check(
        &format!("/srv/shop/app.py:measure {starlette} /srv/shop/app.py:checkout"),
        "shop.app.checkout (left out: 1 of libraries, 1 outside the framework)",
    );
    check(&format!("{starlette} /srv/shop/app.py:measure"), "shop.app.measure (left out: 1 of libraries)");
    check(
        &format!("{starlette} /srv/shop/app.py:checkout -/v/site-packages/flask/app.py:abort"),
        "shop.app.checkout (left out: 2 of libraries)",
    );
    check(
        "/srv/shop/a.py:f -/v/site-packages/pydantic/main.py:validate /srv/shop/b.py:g",
        "shop.a.f → shop.b.g (left out: 1 of libraries)",
    );
}

#[test]
fn recursion_is_folded() {
    let walk = "/srv/shop/a.py:walk ";
    check(&walk.repeat(40), "shop.a.walk (left out: 39 of recursion)");
    let (even, odd) = ("/srv/shop/a.py:even ", "/srv/shop/a.py:odd ");
    check(
        &format!("{} /srv/shop/a.py:leaf", format!("{even}{odd}").repeat(9)),
        "shop.a.even → shop.a.odd → shop.a.leaf (left out: 16 of recursion)",
    );
    check(&format!("{even}{odd}{even}"), "shop.a.even → shop.a.odd → shop.a.even");
    let run_out = |frames: String| event(vec![exception("RecursionError", &frames)]);
    let cycle = format!("{even}{odd}").repeat(20);
    check_same(true, &run_out(format!("/srv/x.py:main {cycle}")), &run_out(format!("{cycle}{even} /srv/shop/a.py:leaf")));
}

#[test]
fn senders_agree_on_the_same_code() {
    let sentry = |module: &str, filename: &str, path: &str| {
        let mut event = event(vec![exception("E", "x.py:checkout")]);
        let frame = &mut event.exceptions[0].frames[0];
        (frame.module, frame.filename, frame.path) = (module.into(), filename.into(), path.into());
        event
    };
    let traceback = |path: &str| event(vec![exception("E", &format!("{path}:checkout"))]);
    check_same(true, &sentry("app", "app.py", "/srv/front/app.py"), &traceback("/srv/front/app.py"));
    check_same(true, &sentry("__main__", "app.py", "/srv/front/app.py"), &traceback("/srv/front/app.py"));
    check_same(true, &sentry("shop.pay", "shop/pay.py", "/home/ann/shop/pay.py"), &traceback("/srv/app/shop/pay.py"));
    check_same(true, &sentry("shop", "shop/__init__.py", "/srv/shop/__init__.py"), &traceback("/srv/shop/__init__.py"));
    check_same(true, &sentry("shop.pay", "", ""), &traceback("D:\\releases\\17\\shop\\pay.py"));
    check_same(false, &sentry("app", "app.py", "/srv/front/app.py"), &traceback("/srv/payments/app.py"));
}

#[test]
fn type_and_function_split_and_line_value_and_module_of_the_type_do_not() {
    let one = event(vec![exception("KeyError", "/srv/shop/a.py:f")]);
    let mut same = one.clone();
    let other = &mut same.exceptions[0];
    (other.value, other.module, other.frames[0].line) = ("else".into(), "shop".into(), 99);
    other.frames[0].context_line = "return d['k']".into();
    other.frames[0].function = "Cart.add.<locals>.f".into();
    check_same(true, &one, &same);
    check_same(false, &one, &event(vec![exception("ValueError", "/srv/shop/a.py:f")]));
    check_same(false, &one, &event(vec![exception("KeyError", "/srv/shop/a.py:g")]));
}

#[test]
fn every_member_of_a_chain_counts_once() {
    let link = |exception_type: &str| exception(exception_type, "/srv/shop/a.py:f");
    let chain = event(vec![link("KeyError"), link("LookupError")]);
    check_same(false, &chain, &event(vec![link("LookupError")]));
    check_same(false, &chain, &event(vec![link("LookupError"), link("KeyError")]));
    check_same(true, &chain, &event(vec![link("KeyError"), link("KeyError"), link("KeyError"), link("LookupError")]));
}

#[test]
fn causes_within_libraries_count_by_their_type() {
    let chain = |library: &str, own: &str| event(vec![exception("ConnectError", library), exception("PaymentError", own)]);
    let (old, new) = ("-/v/site-packages/h/x.py:f", "-/v/site-packages/h/y.py:g");
    check_same(true, &chain(old, "/srv/shop/a.py:f"), &chain(new, "/srv/shop/a.py:f"));
    check_same(false, &chain(old, "-/v/site-packages/h/z.py:f"), &chain(new, "-/v/site-packages/h/z.py:f"));
    check_same(false, &chain(old, "/srv/shop/a.py:f"), &chain("/srv/shop/b.py:f", "/srv/shop/a.py:f"));
}

#[test]
fn groups_count_kinds_and_neither_number_nor_order() {
    let member = |exception_type: &str| exception(exception_type, "/srv/shop/a.py:f");
    let group_of = |members: &[&str]| {
        let mut all: Vec<Exception> = members.iter().map(|kind| member(kind)).collect();
        all.push(exception("ExceptionGroup", "/srv/shop/a.py:main"));
        event(all)
    };
    check_same(true, &group_of(&["A", "B", "A"]), &group_of(&["B", "A"]));
    let mut recursive = group_of(&["A", "B", "A"]);
    let twice = recursive.exceptions[0].frames[0].clone();
    recursive.exceptions[0].frames.push(twice);
    check_same(true, &recursive, &group_of(&["B", "A"]));
    check_same(false, &group_of(&["A", "B"]), &group_of(&["A"]));
    check_same(false, &group_of(&["A"]), &event(vec![member("A")]));
    let mut own_class = group_of(&["B", "A", "A"]);
    own_class.exceptions[3].exception_type = "ManyErrors".into();
    check_same(false, &own_class, &group_of(&["B", "A"]));
    own_class.exceptions[3].is_group = true;
    assert!(group(&own_class).explanation.contains("ManyErrors in shop.a.main of A in shop.a.f and B in shop.a.f"));
}

#[test]
fn without_frames_the_message_counts_without_its_values() {
    let says = |value: &str| {
        let exception = Exception { exception_type: "E".into(), value: value.into(), ..Exception::default() };
        event(vec![exception])
    };
    check_same(true, &says("lost 10.0.0.1"), &says("lost 10.0.0.2"));
    check_same(false, &says("lost 10.0.0.1"), &says("found 10.0.0.1"));
    let message = |message: &str, template: &str| ErrorEvent {
        message: message.into(),
        message_template: template.into(),
        ..ErrorEvent::default()
    };
    check_same(true, &message("user ann failed", "user %s failed"), &message("user bob failed", "user %s failed"));
    check_same(true, &message("job 17: ann", "job 17: %s"), &message("job 18: bob", "job 18: %s"));
    check_same(false, &message("user ann failed", ""), &message("user bob failed", ""));
    check_same(false, &message("E \"lost\"", ""), &says("lost"));
}

#[test]
fn the_senders_fingerprint_wins_and_may_hold_the_default() {
    let with = |parts: &[&str], frames: &str| ErrorEvent {
        fingerprint: parts.iter().map(|part| (*part).to_owned()).collect(),
        ..event(vec![exception("E", frames)])
    };
    let (f, g) = ("/srv/a.py:f", "/srv/a.py:g");
    check_same(true, &with(&["down"], f), &with(&["down"], g));
    check_same(false, &with(&["down"], f), &with(&["up"], f));
    check_same(false, &with(&["down"], f), &with(&[], f));
    check_same(true, &with(&["{{ default }}"], f), &with(&[""], f));
    check_same(true, &with(&["{{ default }}", "acme"], f), &with(&["{{default}}", "acme"], f));
    check_same(false, &with(&["{{ default }}", "acme"], f), &with(&["{{ default }}", "acme"], g));
    check_same(false, &with(&["{{ default }}", "acme"], f), &with(&["{{ default }}", "bolt"], f));
    check_same(false, &with(&["{{ default }}", "acme"], f), &with(&["acme"], f));
    check_same(true, &with(&["{{ type }}"], f), &with(&["E"], g));
    assert_eq!(
        group(&with(&["{{ default }}", "acme"], f)).explanation,
        "br1: fingerprint of the sender: {{ default }}, acme; default: E in a.f"
    );
}

#[test]
fn a_report_from_further_in_has_the_same_raise() {
    let raise = |frames: &str| raise_stack(&event(vec![exception("E", frames)]));
    let outer = raise("-/v/site-packages/starlette/routing.py:app /srv/a.py:checkout /srv/a.py:need");
    let inner = raise("-/v/site-packages/opentelemetry/trace/__init__.py:use_span /srv/a.py:checkout /srv/a.py:need");
    assert_eq!((inner.len(), &inner[..]), (2, &outer[..2]));
    assert_ne!(raise("/srv/a.py:other /srv/a.py:need")[1], outer[1]);
    assert!(raise("").is_empty() && raise(&"/srv/a.py:f ".repeat(100)).len() == RAISE_FRAMES_MAX);
}
