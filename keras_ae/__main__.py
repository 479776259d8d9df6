"""`python -m keras_ae` is `keras-ae`."""

from keras_ae.cli import main

if __name__ == "__main__":
    main()
