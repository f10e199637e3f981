"""Runs nststab from a checkout: python cli.py ..."""

from nststab.cli import main

if __name__ == "__main__":
    main()
