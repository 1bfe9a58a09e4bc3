"""The method alone: it imports torch and the standard library, so that this folder can be copied into any
project.
"""
