"""The `honeyhive` package as programs see it under tracebaton-run.

`hook` is what Python loads at start-up there, `honeyhive` what it imports under that name, and only there. Every module
of it is a package, because only for packages does `from module import name` ask the finder about a name that is absent.
"""
