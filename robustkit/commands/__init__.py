"""What a person types: one command a file (options: ``robustkit.study.config``). Never imports torch by itself."""
