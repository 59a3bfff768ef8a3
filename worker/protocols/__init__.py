"""The languages that models are called in; see ``base`` for what each module offers."""
