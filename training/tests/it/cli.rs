use crate::kit::train;

#[test]
fn help_has_examples_and_mistakes_are_usage() {
    let help = train("backtest --help", &[]);
    assert_eq!(help.code, 0);
    assert!(help.out.contains("Examples:") && help.out.contains("--horizon"));
    assert_eq!(train("", &[]).code, 2);
    assert_eq!(train("fly", &[]).code, 2);
    assert_eq!(train("--version", &[]).code, 0);
    assert!(train("--threads 0 datasets list", &[]).error(2).contains("--threads 0"));
}
